#include "oci/runtime_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "oci/runtime_spec_samples.h"

namespace hull::oci {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

std::string message_of(std::string_view text) {
  Result<Spec> spec = parse_spec(text);
  return spec.ok() ? "accepted" : spec.error().message();
}

/// The rich sample with the value at a JSON pointer replaced.
std::string with(const std::string& pointer, const json& value) {
  json document = json::parse(kRichConfig);
  document[json::json_pointer(pointer)] = value;
  return document.dump();
}

TEST(RuntimeSpec, RichDocumentSurvivesARoundTrip) {
  Result<Spec> spec = parse_spec(kRichConfig);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  // Nothing is lost and nothing is added: the printed document is the read one.
  EXPECT_EQ(json::parse(to_json(*spec)), json::parse(kRichConfig));
  EXPECT_EQ(json::parse(to_json(*spec, 2)), json::parse(kRichConfig));
  Result<void> valid = validate(*spec);
  EXPECT_TRUE(valid.ok()) << valid.error().message();
}

TEST(RuntimeSpec, ValuesLandWhereTheyBelong) {
  Result<Spec> spec = parse_spec(kRichConfig);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->process->user.additional_gids, (std::vector<uint32_t>{5, 4294967294U}));
  EXPECT_EQ(spec->process->rlimits[1].hard, 18446744073709551615ULL);
  EXPECT_EQ(spec->process->oom_score_adj, -500);
  EXPECT_EQ(spec->linux_config->resources->memory->swap, -1);
  EXPECT_EQ(spec->linux_config->resources->devices[1].major, 10);
  EXPECT_FALSE(spec->linux_config->resources->devices[0].major.has_value());
  EXPECT_EQ(spec->linux_config->resources->rdma.at("mlx5_1").hca_handles, 3U);
  EXPECT_EQ(spec->linux_config->net_devices.at("eth0"), "container_eth0");
  EXPECT_EQ(spec->linux_config->net_devices.at("ens4"), "");
  EXPECT_EQ(spec->linux_config->time_offsets.at("boottime").secs, -50);
  EXPECT_EQ(spec->hooks->create_container[0].timeout_s, 3);
  EXPECT_EQ(spec->linux_config->seccomp->syscalls[1].args[0].value_two, 5U);
}

TEST(RuntimeSpec, AcceptsEveryOneDotAndRefusesOthers) {
  for (const char* version : {"1.0.0", "1.0.2-dev", "1.1.0", "1.3.0", "1.9.7+build.5"}) {
    EXPECT_TRUE(parse_spec(with("/ociVersion", version)).ok()) << version;
  }
  for (const char* version : {"0.9.0", "2.0.0", "1", "1.2", "1.2.x", "v1.0.0", "1.0.0.0", "99999999999.0.0"}) {
    EXPECT_THAT(message_of(with("/ociVersion", version)), StartsWith("ociVersion: ")) << version;
  }
  EXPECT_THAT(message_of("{}"), HasSubstr("ociVersion: is missing"));
}

TEST(RuntimeSpec, IgnoresWhatItDoesNotKnowAndReadsNullAsAbsent) {
  EXPECT_TRUE(parse_spec(with("/new/deeply", json::parse(R"([1,{"a":[null,true,-1.5e-3,"x"]}])"))).ok());
  Result<Spec> spec = parse_spec(R"({"ociVersion":"1.0.0","process":null,"linux":{"resources":null,"devices":null}})");
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_FALSE(spec->process.has_value());
  EXPECT_FALSE(spec->linux_config->resources.has_value());
}

TEST(RuntimeSpec, NamesTheMemberAtFault) {
  struct Case {
    const char* pointer;
    json value;
    const char* message;
  };
  const Case cases[] = {
      {"/process/user/uid", 4294967296LL, "process.user.uid: 4294967296 is outside 0 to 4294967295"},
      {"/process/user/uid", -1, "process.user.uid: -1 is outside 0 to 4294967295"},
      {"/process/user/uid", "0", "process.user.uid: expected a whole number"},
      {"/process/user/uid", 1.5, "process.user.uid: expected a whole number, found 1.5"},
      {"/process/args", "sh", "process.args: expected an array"},
      {"/process/args/1", 5, "process.args[1]: expected a string"},
      {"/process/args/1", std::string("a\0b", 3), "process.args[1]: holds a NUL"},
      {"/process/terminal", "yes", "process.terminal: expected true or false"},
      {"/process/terminal", 1, "process.terminal: expected true or false"},
      {"/process/capabilities", json::array(), "process.capabilities: expected an object"},
      {"/mounts/0/options", "rw", "mounts[0].options: expected an array"},
      {"/mounts", json::object(), "mounts: expected an array"},
      {"/linux/resources/memory/limit", 1e30, "linux.resources.memory.limit: expected a whole number"},
      {"/linux/resources/memory/swappiness", -1, "linux.resources.memory.swappiness: -1 is outside"},
      {"/linux/resources/blockIO/weight", 65536, "linux.resources.blockIO.weight: 65536 is outside 0 to 65535"},
      {"/linux/namespaces/0/type", "net", "linux.namespaces[0].type: \"net\" is no namespace type"},
      {"/linux/namespaces/0", json::object(), "linux.namespaces[0]: has no type"},
      {"/annotations/a", 1, "annotations.a: expected a string"},
      {"/root", "rootfs", "root: expected an object"},
  };
  for (const Case& bad : cases) {
    EXPECT_THAT(message_of(with(bad.pointer, bad.value)), StartsWith(bad.message)) << bad.pointer;
  }
  EXPECT_THAT(message_of(R"({"ociVersion":"1.0.0","linux":{"resources":{"memory":{"limit":9223372036854775808}}}})"),
              HasSubstr("linux.resources.memory.limit: 9223372036854775808 is outside"));
}

TEST(RuntimeSpec, RefusesBrokenText) {
  const std::string deep(5000, '[');
  const std::pair<std::string, const char*> cases[] = {
      {"", "the text ends"},
      {"   ", "the text ends"},
      {"null", "found null"},
      {"[]", "expected an object"},
      {"{\"ociVersion\":\"1.0.0\"", "the text ends"},
      {"{\"ociVersion\":\"1.0.0\"}x", "end of the document"},
      {"{\"ociVersion\":\"1.0.0\",}", "member name"},
      {"{\"ociVersion\" \"1.0.0\"}", "':'"},
      {"{'ociVersion':1}", "member name"},
      {"{\"ociVersion\":\"1.0.0\",\"ociVersion\":\"1.0.0\"}", "ociVersion: is there twice"},
      {"{\"ociVersion\":\"1.0.0\",\"x\":1,\"x\":2}", "x: is there twice"},
      {"{\"ociVersion\":\"1.0.0\",\"process\":{\"cwd\":\"/\",\"\\u0063wd\":\"/\"}}", "process.cwd: is there twice"},
      {"{\"x\":" + deep, "nested deeper"},
      {"{\"x\":\"\xff\"}", "UTF-8"},
      {"{\"x\":\"\xc0\xaf\"}", "UTF-8"},
      {"{\"x\":\"\xed\xa0\x80\"}", "UTF-8"},
      {"{\"x\":\"\\ud800\"}", "escape"},
      {"{\"x\":\"\\x\"}", "escape"},
      {"{\"x\":\"a\nb\"}", "control character"},
      {"{\"x\":01}", "'}'"},
      {"{\"x\":-}", "number"},
      {"{\"x\":1.}", "number"},
      {"{\"x\":tru}", "value"},
      {"{\"x\":NaN}", "number"},
      {"\xef\xbb\xbf{}", "expected an object"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(message_of(text), HasSubstr(message)) << text.substr(0, 60);
  }
  EXPECT_THAT(message_of(std::string((16 << 20) + 1, ' ')), HasSubstr("at most"));
  std::string many = "{\"x\":[";
  for (int i = 0; i < 1'100'000; ++i) many += "0,";
  EXPECT_THAT(message_of(many + "0]}"), HasSubstr("values"));
}

TEST(RuntimeSpec, EveryCutIsRefusedAndNeverCrashes) {
  const std::string text = kRichConfig;
  const std::string_view whole = std::string_view(text).substr(0, text.find_last_of('}'));
  for (size_t length = 0; length < whole.size(); length += 3) {
    EXPECT_FALSE(parse_spec(whole.substr(0, length)).ok()) << length;
  }
}

TEST(RuntimeSpec, AgreesWithAnotherParserOnMutations) {
  // Where this reader accepts, nlohmann-json accepts too (which keeps the last of doubled members).
  std::mt19937 random(7);
  const std::string text = kRichConfig;
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string mutant = text;
    for (int edits = 0; edits < 3; ++edits) {
      const size_t at = random() % mutant.size();
      switch (random() % 3) {
        case 0:
          mutant[at] = static_cast<char>(random());
          break;
        case 1:
          mutant.erase(at, 1 + random() % 4);
          break;
        default:
          mutant.insert(at, 1, "{}[],:\"0-e.\\"[random() % 12]);
      }
    }
    Result<Spec> spec = parse_spec(mutant);
    if (!spec.ok()) {
      EXPECT_FALSE(spec.error().message().empty());
      continue;
    }
    ++accepted;
    EXPECT_TRUE(json::accept(mutant)) << mutant;
    Result<Spec> again = parse_spec(to_json(*spec));
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(to_json(*again), to_json(*spec));
  }
  EXPECT_GT(accepted, 10);
}

TEST(RuntimeSpec, StringsSurviveWithEveryCharacter) {
  Spec spec;
  spec.version = "1.3.0";
  std::string all;
  for (int c = 1; c < 0x80; ++c) all.push_back(static_cast<char>(c));
  all += "ä€\xf0\x9f\x9a\xa2\"\\/";
  spec.annotations["k\"\n" + all] = all;
  Result<Spec> again = parse_spec(to_json(spec));
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(again->annotations, spec.annotations);
  EXPECT_EQ(json::parse(to_json(spec))["annotations"]["k\"\n" + all], all);
  // What is not UTF-8 is replaced, so that the document stays JSON.
  spec.annotations = {{"k", "a\xff\xc3z"}};
  EXPECT_EQ(json::parse(to_json(spec))["annotations"]["k"], "a\ufffd\ufffdz");
}

TEST(RuntimeSpec, ParsesProcessAndResourcesAlone) {
  Result<Process> process = parse_process(R"({"args":["a"],"cwd":"/","user":{"uid":1,"gid":2,"umask":18}})");
  ASSERT_TRUE(process.ok());
  EXPECT_EQ(process->user.umask, 18U);
  EXPECT_EQ(json::parse(to_json(*process)),
            json::parse(R"({"args":["a"],"cwd":"/","user":{"uid":1,"gid":2,"umask":18}})"));
  Result<Resources> resources = parse_resources(R"({"pids":{"limit":5},"cpu":{"shares":0}})");
  ASSERT_TRUE(resources.ok());
  EXPECT_EQ(resources->pids_limit, 5);
  EXPECT_EQ(to_json(*resources), R"({"cpu":{"shares":0},"pids":{"limit":5}})");
  EXPECT_EQ(to_json(State{.version = "1.3.0", .id = "c", .status = "stopped", .pid = 0, .bundle = "/b"}),
            R"({"ociVersion":"1.3.0","id":"c","status":"stopped","bundle":"/b"})");
}

TEST(RuntimeSpec, NamespaceNames) {
  for (const char* name : {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"}) {
    Result<NamespaceType> type = parse_namespace_type(name);
    ASSERT_TRUE(type.ok());
    EXPECT_EQ(to_string(*type), name);
  }
  EXPECT_FALSE(parse_namespace_type("").ok());
  EXPECT_FALSE(parse_namespace_type("PID").ok());
}

TEST(RuntimeSpec, SysctlsBelongToNamespaces) {
  const auto space = [](std::string_view name) {
    Result<NamespaceType> type = sysctl_namespace(name);
    return type.ok() ? std::string(to_string(*type)) : "error";
  };
  EXPECT_EQ(space("net.ipv4.ip_forward"), "network");
  EXPECT_EQ(space("net/ipv4/ip_forward"), "network");
  EXPECT_EQ(space("net.ipv4.conf.eth0/100.rp_filter"), "network");
  EXPECT_EQ(space("kernel.shmmax"), "ipc");
  EXPECT_EQ(space("fs.mqueue.msg_max"), "ipc");
  EXPECT_EQ(space("kernel.domainname"), "uts");
  for (const char* bad : {"", "kernel.hostname", "vm.swappiness", "kernel.core_pattern", "net", "net..x", ".net.x",
                          "net.x.", "net/../../kernel/core_pattern", "net.ipv4.//.x", "net.a b", "network.x"}) {
    EXPECT_EQ(space(bad), "error") << bad;
  }
}

TEST(RuntimeSpec, ValidateNamesWhatIsWrong) {
  const auto says = [](const std::function<void(Spec&)>& change) {
    Result<Spec> spec = parse_spec(kRichConfig);
    EXPECT_TRUE(spec.ok());
    change(*spec);
    Result<void> valid = validate(*spec);
    return valid.ok() ? std::string("accepted") : valid.error().message();
  };
  EXPECT_EQ(says([](Spec&) {}), "accepted");
  EXPECT_THAT(says([](Spec& s) { s.root.reset(); }), StartsWith("root: is missing"));
  EXPECT_THAT(says([](Spec& s) { s.root->path.clear(); }), StartsWith("root.path"));
  EXPECT_THAT(says([](Spec& s) { s.process->cwd = "tmp"; }), StartsWith("process.cwd"));
  EXPECT_THAT(says([](Spec& s) { s.process->args.clear(); }), StartsWith("process.args"));
  EXPECT_THAT(says([](Spec& s) { s.process->env.push_back("=x"); }), HasSubstr("no name"));
  EXPECT_THAT(says([](Spec& s) { s.process->rlimits.push_back(s.process->rlimits[0]); }), HasSubstr("twice"));
  EXPECT_THAT(says([](Spec& s) { s.process->rlimits[0].soft = s.process->rlimits[0].hard + 1; }), HasSubstr("above"));
  EXPECT_THAT(says([](Spec& s) { s.process->user.uid = 4294967295U; }), StartsWith("process.user.uid"));
  EXPECT_THAT(says([](Spec& s) { s.process->oom_score_adj = 1001; }), StartsWith("process.oomScoreAdj"));
  EXPECT_THAT(says([](Spec& s) { s.process->user.umask = 01000; }), StartsWith("process.user.umask"));
  EXPECT_THAT(says([](Spec& s) { s.mounts[0].destination.clear(); }), StartsWith("mounts[0].destination"));
  EXPECT_THAT(says([](Spec& s) { s.mounts[0].uid_mappings = {{0, 1, 1}}; }), HasSubstr("together"));
  EXPECT_THAT(says([](Spec& s) { s.hooks->poststop = {{.path = "relative"}}; }), StartsWith("hooks.poststop[0].path"));
  EXPECT_THAT(says([](Spec& s) { s.hooks->create_container[0].timeout_s = 0; }), HasSubstr("timeout"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->namespaces.push_back({NamespaceType::kPid, ""}); }),
              HasSubstr("twice"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->namespaces[0].path = "ns"; }), HasSubstr("absolute"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->uid_mappings.clear(); }), HasSubstr("uidMappings"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->uid_mappings[0].size = 0; }), HasSubstr("size"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->uid_mappings[0].host_id = 4294967290U; }), HasSubstr("highest"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->uid_mappings.push_back({5, 900000, 1}); }), HasSubstr("overlap"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->sysctl["vm.swappiness"] = "1"; }), HasSubstr("vm.swappiness"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->devices[0].type = "x"; }), StartsWith("linux.devices[0].type"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->devices[0].major = -1; }), HasSubstr("device number"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->resources->devices[0].access = "rwx"; }), HasSubstr("access"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->net_devices["a/b"] = ""; }), HasSubstr("interface name"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->net_devices["x1"] = "ens4"; }), HasSubstr("same name"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->rootfs_propagation = "sharde"; }), HasSubstr("rootfsPropagation"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->masked_paths.push_back("x"); }), HasSubstr("maskedPaths"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->time_offsets["realtime"] = {}; }), HasSubstr("realtime"));
  EXPECT_THAT(says([](Spec& s) { s.linux_config->intel_rdt->clos_id = "../x"; }), HasSubstr("closID"));
  EXPECT_EQ(says([](Spec& s) { s.linux_config->intel_rdt->clos_id = "/"; }), "accepted");
  EXPECT_THAT(says([](Spec& s) { s.linux_config->personality->domain = "BSD"; }), HasSubstr("personality"));
  EXPECT_THAT(says([](Spec& s) {
                std::erase_if(s.linux_config->namespaces,
                              [](const Namespace& n) { return n.type == NamespaceType::kUts; });
              }),
              StartsWith("hostname"));
  EXPECT_THAT(says([](Spec& s) {
                s.hostname.clear();
                s.domainname.clear();
                std::erase_if(s.linux_config->namespaces,
                              [](const Namespace& n) { return n.type == NamespaceType::kUts; });
              }),
              StartsWith("linux.sysctl.kernel.domainname"));
}

TEST(RuntimeSpec, ReadsADockerSizedDocumentQuickly) {
  // Docker's config.json is about 30 KB, most of it seccomp names.
  json document = json::parse(kRichConfig);
  for (int i = 0; i < 420; ++i) {
    document["linux"]["seccomp"]["syscalls"][0]["names"].push_back("a_system_call_with_a_name_that_is_long_" +
                                                                   std::to_string(i));
  }
  const std::string text = document.dump(1);
  ASSERT_GT(text.size(), 24000U);
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(parse_spec(text).ok());
    best = std::min(best, std::chrono::nanoseconds(std::chrono::steady_clock::now() - start));
  }
  RecordProperty("best_us", static_cast<int>(best.count() / 1000));
  EXPECT_LT(best, std::chrono::milliseconds(3)) << "1 ms in a release build";
}

}  // namespace
}  // namespace hull::oci
