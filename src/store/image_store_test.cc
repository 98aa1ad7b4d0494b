#include "store/image_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "db/database.h"
#include "store/image_writer.h"
#include "store/layout.h"
#include "sys/file.h"

namespace hull::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Digest digest_of(char c) { return *Digest::parse("sha256:" + std::string(64, c)); }

class Store : public ::testing::Test {
 protected:
  Store() {
    std::string pattern = ::testing::TempDir() + "hull-store-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    paths_ = {folder_ + "/data", folder_ + "/run"};
  }
  ~Store() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<ImageStore> open() {
    auto store = ImageStore::open(paths_);
    EXPECT_TRUE(store.ok()) << store.error().message();
    return std::move(store).value();
  }
  std::unique_ptr<ImageWriter> writer() { return std::move(ImageWriter::open(paths_)).value(); }

  void put_layer(ImageWriter& writer, char id, size_t size = 1000) {
    const Digest diff_id = digest_of(id);
    ASSERT_TRUE(writer.protect(std::span(&diff_id, 1)).ok());
    ASSERT_TRUE(
        sys::replace_file(writer.layers_path() + "/" + std::string(diff_id.hex()) + ".erofs", std::string(size, 'x'))
            .ok());
    LayerRecord record;
    record.diff_id = diff_id;
    record.tar_size = size;
    ASSERT_TRUE(writer.add_layer(record).ok());
  }

  /// An image with the id `id`, made of layers that get put.
  CommittedImage put_image(ImageWriter& writer, char id, const std::string& layers, std::vector<std::string> tags,
                           const std::string& labels = "{}") {
    NewImage image;
    image.id = digest_of(id);
    image.manifest_digest = *Digest::parse("sha256:" + std::string(63, id) + "0");
    std::string ids;
    for (const char layer : layers) {
      put_layer(writer, layer);
      image.diff_ids.push_back(digest_of(layer));
      ids += (ids.empty() ? "\"" : ",\"") + digest_of(layer).str() + "\"";
    }
    image.config_json = R"({"created":"2024-05-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Labels":)" +
                        labels + R"(},"rootfs":{"type":"layers","diff_ids":[)" + ids + "]}}";
    image.manifest_json = "{}";
    for (const std::string& tag : tags) image.tags.push_back(*oci::parse_reference(tag));
    if (!tags.empty()) {
      oci::Reference by_digest = image.tags.front();
      by_digest.tag.clear();
      by_digest.digest = image.manifest_digest;
      image.digests.push_back(by_digest);
    }
    auto committed = writer.commit_image(image);
    EXPECT_TRUE(committed.ok()) << committed.error().message();
    return committed.ok() ? *committed : CommittedImage{};
  }
  bool layer_file_exists(char id) {
    return sys::exists(paths_.data + "/layers/" + std::string(digest_of(id).hex()) + ".erofs");
  }

  std::string folder_;
  StorePaths paths_;
};

TEST_F(Store, OpensEmptyAndPrivate) {
  auto store = open();
  EXPECT_THAT(*store->list(true), IsEmpty());
  EXPECT_EQ(std::filesystem::status(paths_.data).permissions(), std::filesystem::perms::owner_all);
  auto missing = store->find("busybox");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
}

TEST_F(Store, FindsByEveryName) {
  auto w = writer();
  const CommittedImage first = put_image(*w, 'a', "12", {"busybox:1", "localhost:5000/x/bb:2"});
  EXPECT_TRUE(first.fresh);
  EXPECT_TRUE(first.tag_moved);
  auto store = open();
  const std::string by_digest = "busybox@sha256:" + std::string(63, 'a') + "0";
  for (const std::string& name :
       {std::string("busybox:1"), std::string("docker.io/library/busybox:1"), std::string("localhost:5000/x/bb:2"),
        by_digest, "busybox:9@" + by_digest.substr(8), digest_of('a').str(), std::string(64, 'a'), std::string("aaaa"),
        std::string("sha256:aaaaaa")}) {
    auto image = store->find(name);
    ASSERT_TRUE(image.ok()) << name << ": " << image.error().message();
    EXPECT_EQ(image->id, digest_of('a'));
    EXPECT_THAT(image->tags, UnorderedElementsAre("busybox:1", "localhost:5000/x/bb:2"));
    EXPECT_THAT(image->digests, ElementsAre(by_digest));
    EXPECT_THAT(image->diff_ids, ElementsAre(digest_of('1'), digest_of('2')));
    EXPECT_EQ(image->size, 2000U);
    EXPECT_EQ(image->config.platform.architecture, "amd64");
  }
  for (const char* name : {"busybox", "aaa", "bbbb", "sha256:bb"}) {
    auto image = store->find(name);
    ASSERT_FALSE(image.ok()) << name;
  }
  EXPECT_EQ(store->find("BAD").error().kind(), ErrorKind::kInvalid);
}

TEST_F(Store, AmbiguousPrefixIsAConflictAndANameWinsOverAPrefix) {
  auto w = writer();
  put_image(*w, 'a', "1", {"aaaa:latest"});
  NewImage other;
  other.id = *Digest::parse("sha256:aaaab" + std::string(59, '0'));
  other.manifest_digest = digest_of('e');
  other.config_json = R"({"rootfs":{"type":"layers","diff_ids":[]}})";
  ASSERT_TRUE(w->commit_image(other).ok());
  auto store = open();
  EXPECT_EQ(store->find("aaaa")->id, digest_of('a'));
  auto ambiguous = store->find("sha256:aaaa");
  ASSERT_FALSE(ambiguous.ok());
  EXPECT_EQ(ambiguous.error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(store->find("aaaab")->id, other.id);
}

TEST_F(Store, TagsMoveAndSecondCommitIsNotFresh) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:latest"});
  put_image(*w, 'b', "12", {"app:latest"});
  auto store = open();
  EXPECT_EQ(store->find("app")->id, digest_of('b'));
  EXPECT_THAT(store->find("aaaa")->tags, IsEmpty());
  const CommittedImage again = put_image(*w, 'b', "12", {"app:latest"});
  EXPECT_FALSE(again.fresh);
  EXPECT_FALSE(again.tag_moved);
  ASSERT_TRUE(store->tag("aaaa", "app:old").ok());
  EXPECT_EQ(store->find("app:old")->id, digest_of('a'));
  EXPECT_FALSE(store->tag("nothing", "app:x").ok());
  EXPECT_FALSE(store->tag("app", "app@sha256:" + std::string(64, 'a')).ok());
  auto list = store->list(false);
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->size(), 2U);
}

TEST_F(Store, RemoveUntagsFirstAndSharedLayersStay) {
  auto w = writer();
  put_image(*w, 'a', "12", {"app:1", "app:2"});
  put_image(*w, 'b', "13", {"other:1"});
  w.reset();
  auto store = open();
  auto report = store->remove("app:1", false);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->untagged, ElementsAre("app:1"));
  EXPECT_THAT(report->deleted, IsEmpty());
  report = store->remove("app:2", false);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->deleted, UnorderedElementsAre(digest_of('a'), digest_of('2')));
  EXPECT_TRUE(layer_file_exists('1'));
  EXPECT_FALSE(layer_file_exists('2'));
  EXPECT_FALSE(sys::exists(paths_.data + "/blobs/sha256/" + std::string(64, 'a')));
  EXPECT_TRUE(store->find("other:1").ok());
}

TEST_F(Store, RemoveByIdOfTwoRepositoriesNeedsForce) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:1", "other:1"});
  w.reset();
  auto store = open();
  EXPECT_EQ(store->remove("aaaa", false).error().kind(), ErrorKind::kConflict);
  auto report = store->remove("aaaa", true);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->untagged.size(), 3U);
  EXPECT_FALSE(store->find("aaaa").ok());
}

TEST_F(Store, HeldImagesStay) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:1"});
  w.reset();
  auto store = open();
  ASSERT_TRUE(store->hold(digest_of('a'), "w1").ok());
  ASSERT_TRUE(store->hold(digest_of('a'), "w1").ok()) << "idempotent";
  EXPECT_EQ(store->hold(digest_of('c'), "w2").error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(store->hold(digest_of('a'), "../w").error().kind(), ErrorKind::kInvalid);
  EXPECT_THAT(*store->holders(), ElementsAre("w1"));
  EXPECT_EQ(store->list(false)->front().containers, 1);
  EXPECT_EQ(store->remove("app:1", false).error().kind(), ErrorKind::kConflict);
  auto forced = store->remove("app:1", true);
  ASSERT_TRUE(forced.ok());
  EXPECT_THAT(forced->deleted, IsEmpty());
  EXPECT_TRUE(store->find("aaaa").ok()) << "only untagged";
  auto pruned = store->prune(true, {}, {});
  ASSERT_TRUE(pruned.ok());
  EXPECT_TRUE(layer_file_exists('1'));
  ASSERT_TRUE(store->release("w1").ok());
  ASSERT_TRUE(store->release("w1").ok()) << "idempotent";
  pruned = store->prune(false, {}, {});
  ASSERT_TRUE(pruned.ok());
  EXPECT_FALSE(layer_file_exists('1'));
  EXPECT_GT(pruned->reclaimed, 0U);
}

TEST_F(Store, PruneFiltersByLabelAndAge) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:1"}, R"({"keep":"yes"})");
  put_image(*w, 'b', "2", {"app:2"});
  w.reset();
  auto store = open();
  const auto long_ago = std::chrono::system_clock::from_time_t(1000);
  ASSERT_TRUE(store->prune(true, {}, long_ago).ok());
  EXPECT_EQ(store->list(false)->size(), 2U);
  ASSERT_TRUE(store->prune(true, {"!keep"}, {}).ok());
  ASSERT_EQ(store->list(false)->size(), 1U);
  EXPECT_EQ(store->list(false)->front().id, digest_of('a'));
  ASSERT_TRUE(store->prune(true, {"keep=no"}, {}).ok());
  EXPECT_EQ(store->list(false)->size(), 1U);
  ASSERT_TRUE(store->prune(true, {"keep=yes"}, {}).ok());
  EXPECT_THAT(*store->list(false), IsEmpty());
}

TEST_F(Store, CollectorSparesWhatALivePullReliesOn) {
  auto w = writer();
  put_layer(*w, '1');  // no image yet: a pull in the middle
  ASSERT_TRUE(sys::replace_file(w->layers_path() + "/" + w->staging_name() + ".erofs", "half").ok());
  auto store = open();
  ASSERT_TRUE(store->prune(true, {}, {}).ok());
  EXPECT_TRUE(layer_file_exists('1'));
  EXPECT_TRUE(*w->has_layer(digest_of('1')));
  EXPECT_THAT(store->check(false, true)->problems, IsEmpty());
  put_image(*w, 'a', "1", {"app:1"});
  w.reset();  // the lease goes
  auto report = store->check(false, true);
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->problems.size(), 1U);
  EXPECT_THAT(report->problems[0], HasSubstr(".stage-"));
  EXPECT_TRUE(store->find("app:1").ok());
}

TEST_F(Store, LeaseOfAKilledProcessDoesNotCount) {
  open();
  const pid_t child = ::fork();
  if (child == 0) {
    auto w = writer();
    put_layer(*w, '1');
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  auto store = open();
  EXPECT_TRUE(layer_file_exists('1')) << "kept for the pull that goes on";
  auto pruned = store->prune(false, {}, {});
  ASSERT_TRUE(pruned.ok());
  EXPECT_FALSE(layer_file_exists('1'));
  EXPECT_TRUE(std::filesystem::is_empty(paths_.data + "/leases"));
}

TEST_F(Store, CheckDropsWhatCanNotBeUsed) {
  auto w = writer();
  put_image(*w, 'a', "12", {"app:1"});
  put_image(*w, 'b', "1", {"app:2"});
  w.reset();
  auto store = open();
  EXPECT_THAT(store->check(false, false)->problems, IsEmpty());
  std::filesystem::remove(paths_.data + "/layers/" + std::string(64, '2') + ".erofs");
  ASSERT_TRUE(sys::replace_file(paths_.data + "/layers/" + std::string(64, '9') + ".erofs", "orphan").ok());
  ASSERT_TRUE(sys::replace_file(paths_.data + "/blobs/sha256/" + std::string(64, '8'), "orphan").ok());
  auto report = store->check(false, false);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->problems.size(), 3U);
  EXPECT_THAT(report->repaired, IsEmpty());
  report = store->check(false, true);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->repaired, ::testing::SizeIs(::testing::Ge(3U)));
  EXPECT_FALSE(store->find("app:1").ok());
  EXPECT_TRUE(store->find("app:2").ok());
  EXPECT_THAT(store->check(false, true)->problems, IsEmpty());
  EXPECT_EQ(store->check(true, false).error().kind(), ErrorKind::kUnsupported) << "no verifier in this program";
}

TEST_F(Store, DeepCheckAsksTheVerifier) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:1"});
  w.reset();
  auto store = open();
  store->set_layer_verifier([](const Digest&, const std::string&) -> Result<void> {
    return Error(ErrorKind::kCorrupt, "its diff id differs");
  });
  auto report = store->check(true, true);
  ASSERT_TRUE(report.ok());
  EXPECT_FALSE(report->problems.empty());
  EXPECT_FALSE(store->find("app:1").ok());
}

TEST_F(Store, UsageCountsSharedLayersOnce) {
  auto w = writer();
  put_image(*w, 'a', "12", {"app:1"});
  put_image(*w, 'b', "13", {"app:2"});
  auto store = open();
  auto usage = store->usage();
  ASSERT_TRUE(usage.ok());
  EXPECT_EQ(usage->images, 2);
  EXPECT_EQ(usage->images_in_use, 0);
  EXPECT_EQ(usage->reclaimable_bytes, usage->layers_bytes);
  ASSERT_TRUE(store->hold(digest_of('a'), "w1").ok());
  usage = store->usage();
  EXPECT_EQ(usage->images_in_use, 1);
  EXPECT_EQ(usage->reclaimable_bytes * 3, usage->layers_bytes);
}

TEST_F(Store, TornLayersOfAnEarlierBootAreRefused) {
  auto w = writer();
  put_image(*w, 'a', "1", {"app:1"});
  EXPECT_TRUE(*w->has_layer(digest_of('1')));
  const auto set = [&](const char* sql) {
    auto index =
        db::Database::open(paths_.data + "/index.db", {.subject = "index", .lock_path = paths_.data + "/index.lock"});
    ASSERT_TRUE(index.ok() && (*index)->execute(sql).ok());
  };
  set("UPDATE layers SET boot = 'another boot'");
  EXPECT_FALSE(*w->has_layer(digest_of('1')));
  auto store = open();
  auto dirs = store->lower_dirs(*store->find("app:1"));
  ASSERT_FALSE(dirs.ok());
  EXPECT_EQ(dirs.error().kind(), ErrorKind::kCorrupt);
  EXPECT_THAT(dirs.error().message(), HasSubstr("pull the image again"));
  const Digest layer = digest_of('1');
  ASSERT_TRUE(w->mark_synced(std::span(&layer, 1)).ok());
  EXPECT_TRUE(*w->has_layer(digest_of('1')));
}

TEST_F(Store, LayerLocksExcludeThreadsAndProcesses) {
  auto w = writer();
  auto first = w->lock_layer(digest_of('1'), false);
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_FALSE(w->lock_layer(digest_of('1'), false)->has_value());
  EXPECT_TRUE(w->lock_layer(digest_of('2'), false)->has_value());
  auto other = writer();
  EXPECT_FALSE(other->lock_layer(digest_of('1'), false)->has_value());
  std::thread waiter([&] { EXPECT_TRUE(other->lock_layer(digest_of('1'), true)->has_value()); });
  *first = std::nullopt;
  waiter.join();
}

TEST_F(Store, ManyWritersAtOnce) {
  open();
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      bool good = true;
      for (int round = 0; round < 10; ++round) {
        auto w = ImageWriter::open(paths_);
        good = good && w.ok();
        if (!good) break;
        put_image(**w, static_cast<char>('a' + i), "1", {"app:" + std::to_string(i)});
        good = good && (*w)->store().find("app:" + std::to_string(i)).ok();
        good = good && (*w)->store().prune(false, {}, {}).ok();
      }
      ::_exit(good && !HasFailure() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  auto store = open();
  EXPECT_EQ(store->list(false)->size(), 6U);
  EXPECT_THAT(store->check(true, false).error().message(), HasSubstr("hull-images check"));
  EXPECT_THAT(store->check(false, false)->problems, IsEmpty());
}

TEST_F(Store, NewerSchemaAndGarbageAreNamed) {
  open();
  {
    auto index =
        db::Database::open(paths_.data + "/index.db", {.subject = "index", .lock_path = paths_.data + "/index.lock"});
    ASSERT_TRUE((*index)->execute("PRAGMA user_version=99").ok());
  }
  auto store = ImageStore::open(paths_);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().kind(), ErrorKind::kUnsupported);
  ASSERT_TRUE(sys::replace_file(paths_.data + "/index.db", std::string(8192, 'z')).ok());
  store = ImageStore::open(paths_);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().kind(), ErrorKind::kCorrupt);
}

TEST_F(Store, DefaultRegistryChangesWhatShortNamesMean) {
  auto w = writer();
  put_image(*w, 'a', "1", {"busybox:latest"});
  paths_.default_registry = "registry.example";
  auto store = open();
  EXPECT_FALSE(store->find("busybox").ok());
  auto image = store->find("docker.io/busybox");
  ASSERT_TRUE(image.ok());
  EXPECT_THAT(image->tags, ElementsAre("docker.io/library/busybox:latest"));
}

}  // namespace
}  // namespace hull::store
