#include "engine/dependencies.h"

#include <gtest/gtest.h>

namespace hull::engine {
namespace {

DependencyNode node(std::string name, std::vector<std::string> needs, std::map<std::string, std::string> labels = {}) {
  std::string id(64, name[0]);
  return {std::move(id), std::move(name), std::move(needs), std::move(labels)};
}

std::string order(const std::vector<DependencyNode>& nodes) {
  std::string text;
  for (const OrderedNode& one : order_by_dependency(nodes)) {
    text += (text.empty() ? "" : " ") + nodes[one.index].name;
    for (const DependencyWait& wait : one.waits) text += "(" + wait.name + " " + wait.condition + ")";
  }
  return text;
}

TEST(Dependencies, OfARequest) {
  Config config;
  config.network = "container:net";
  config.pid_mode = "container:pid";
  config.ipc_mode = "shareable";
  config.volumes_from = {"data:ro", "more"};
  config.links = {"db:database"};
  EXPECT_EQ(dependencies_of(config), (std::vector<std::string>{"net", "pid", "data", "more", "db"}));
}

TEST(Dependencies, ComeFirst) {
  EXPECT_EQ(order({node("a", {"b"}), node("b", {"c"}), node("c", {}), node("d", {})}), "c b a d");
  EXPECT_EQ(order({node("a", {"bbbb"}), node("b", {})}), "b a") << "by the beginning of an id";
  EXPECT_EQ(order({node("a", {"gone"})}), "a");
}

TEST(Dependencies, ACircleIsBroken) {
  EXPECT_EQ(order({node("a", {"b"}), node("b", {"a"})}), "b a");
  EXPECT_EQ(order({node("a", {"a"})}), "a");
}

TEST(Dependencies, ALongChainNeedsNoStack) {
  std::vector<DependencyNode> chain;
  for (int i = 0; i < 3000; ++i) {
    DependencyNode one;
    one.id = std::string(60, '0') + std::to_string(1000 + i);
    one.name = "n" + std::to_string(i) + "x";
    one.needs = {"n" + std::to_string(i + 1) + "x"};
    chain.push_back(std::move(one));
  }
  const auto ordered = order_by_dependency(chain);
  ASSERT_EQ(ordered.size(), 3000U);
  EXPECT_EQ(ordered.front().index, 2999U);
}

TEST(Dependencies, OfCompose) {
  const auto service = [](std::string name, std::string project, std::string depends) {
    DependencyNode one = node(name, {});
    one.labels = {{"com.docker.compose.project", std::move(project)},
                  {"com.docker.compose.service", name.substr(0, name.find('-'))},
                  {"com.docker.compose.depends_on", std::move(depends)}};
    return one;
  };
  EXPECT_EQ(order({service("web-1", "p", "db:service_healthy:false,job:service_completed_successfully:true,"),
                   service("db-1", "p", ""), service("job-1", "p", ""), service("xdb-1", "q", "")}),
            "db-1 job-1 web-1(db-1 service_healthy)(job-1 service_completed_successfully) xdb-1");
  EXPECT_EQ(order({service("web-1", "p", "db"), service("db-2", "q", "")}), "web-1 db-2") << "of another project";
}

}  // namespace
}  // namespace hull::engine
