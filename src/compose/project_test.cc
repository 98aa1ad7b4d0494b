// Whole projects: what is read, how it is merged, what is refused, and what becomes of a service.
#include <gmock/gmock.h>

#include "compose/canonical.h"
#include "compose/environment.h"
#include "compose/files.h"
#include "compose/merge.h"
#include "compose/sample.h"
#include "compose/schema.h"
#include "compose/service_config.h"

namespace hull::compose {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

TEST(Project, TheLongFormOfEverything) {
  const std::string data = std::string(HULL_SOURCE_DIR) + "/src/compose/testdata/";
  SampleFolder folder;
  folder.write("compose.yaml", *sys::read_file(data + "full.yaml"));
  folder.write("web.env", "FROM_FILE=$TAG\nA=overridden\n");
  folder.write("token", "secret");
  LoadOptions options = folder.options();
  options.environment = {{"PASSED", "on"}, {"NAME", "you"}};
  auto project = load_project(options);
  ASSERT_TRUE(project.ok()) << project.error().message();
  auto model = build_model(*project, {});
  ASSERT_TRUE(model.ok()) << model.error().message();
  const std::string printed = replaced(print_yaml(printed_document(*model)), folder.path(), "FOLDER");
  if (std::getenv("HULL_ACCEPT") != nullptr) {
    ASSERT_TRUE(sys::replace_file(data + "full.golden", printed, 0644, false).ok());
  }
  EXPECT_EQ(printed, *sys::read_file(data + "full.golden"));
  // What is printed can be read again, and says the same.
  SampleFolder again;
  again.write("compose.yaml", replaced(print_yaml(printed_document(*model)), "$", "$$"));
  again.write("web.env", "");
  auto second = again.load();
  ASSERT_TRUE(second.ok()) << second.error().message();
  auto second_model = build_model(*second, {});
  ASSERT_TRUE(second_model.ok()) << second_model.error().message();
  EXPECT_EQ(replaced(print_yaml(printed_document(*second_model)), folder.path(), "FOLDER"), printed);
  const auto environment = service_environment(*project, *model->find("web"));
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->at("A"), "1");
  EXPECT_EQ(environment->at("B"), "$HOME");
  EXPECT_EQ(environment->at("PASSED"), "on");
  EXPECT_THAT(project->notices.lines(), ElementsAre());
}

TEST(Project, ErrorsNameFileAndLine) {
  struct Case {
    std::string_view text, error;
  };
  const Case cases[] = {
      {"services:\n  web:\n    image: a\n    prots: [1]\n",
       "compose.yaml:4: services.web.prots: unknown key (did you mean \"ports\"?)"},
      {"servcies: {}\n", "compose.yaml:1: servcies: unknown key (did you mean \"services\"?)"},
      {"services:\n  web:\n    image: 3\n", "compose.yaml:3: services.web.image: expected text, this is a number"},
      {"services:\n  web:\n    image: a\n    ports: 80\n", "compose.yaml:4: services.web.ports: expected a list"},
      {"services:\n  web: [1]\n", "compose.yaml:2: services.web: expected a map, this is a list"},
      {"services:\n  web:\n", "compose.yaml:2: services.web: expected a map, this is nothing"},
      {"services:\n  we b: {image: a}\n", "a name has letters"},
      {"services:\n  web: {command: x}\n", "compose.yaml:2: services.web: has neither an image nor a build section"},
      {"services: {}\n", "there are no services"},
      {"services:\n  web:\n    image: a\n    ports:\n      - 80\n      - 99999:80\n", "compose.yaml:6: port 99999:80"},
      {"services:\n  web:\n    image: a\n    volumes: ['a:b']\n", "must be an absolute path"},
      {"services:\n  web:\n    image: a\n    volumes: ['x:/y']\n",
       "compose.yaml:4: services.web: uses \"x\", which is not defined under volumes"},
      {"services:\n  web:\n    image: a\n    networks: [n]\n", "uses \"n\", which is not defined under networks"},
      {"services:\n  web:\n    image: a\n    secrets: [n]\n", "uses \"n\", which is not defined under secrets"},
      {"services:\n  web:\n    image: a\n    depends_on: [db]\n",
       "compose.yaml:4: services.web: depends on \"db\", which is not defined"},
      {"services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, depends_on: "
       "[a]}\n",
       "in a circle: a -> b -> c -> a"},
      {"services:\n  a: {image: x, depends_on: [a]}\n", "in a circle: a -> a"},
      {"services:\n  a: {image: x, depends_on: {b: {condition: service_ready}}}\n", "\"service_ready\" is not one of"},
      {"services:\n  a: {image: x, scale: 2, deploy: {replicas: 3}}\n", "scale (2) and deploy.replicas (3) differ"},
      {"services:\n  a: {image: x, scale: 2, container_name: y}\n", "can't share the name"},
      {"services:\n  a: {image: x, network_mode: host, networks: [default]}\n", "exclude each other"},
      {"services:\n  a: {image: x, extends: a}\n", "the service \"a\" extends itself"},
      {"services:\n  a: {image: x, extends: b}\n  b: {image: x, extends: a}\n", "extends itself"},
      {"services:\n  a: {image: x, extends: {service: b, file: gone.yaml}}\n", "gone.yaml"},
      {"services:\n  a: {image: x, extends: nobody}\n", "there is no service \"nobody\""},
      {"services:\n  a: {image: x, extends: {service: b, file: 'https://example.org/x.yaml'}}\n",
       "is not on this machine"},
      {"include: [other.yaml]\nservices: {a: {image: x}}\n", "compose.yaml:1: include"},
      {"include: [compose.yaml]\nservices: {a: {image: x}}\n", "includes itself"},
      {"services:\n  a: {image: \"${X:?needed}\"}\n", "compose.yaml:2: the variable X is required: needed"},
      {"name: Bad Name\nservices: {a: {image: x}}\n", "compose.yaml:1: name: \"Bad Name\""},
      {"services:\n  a: {image: x, configs: [c]}\nconfigs: {c: {external: true}}\n",
       "there are no external configs without a cluster"},
      {"services:\n  a: {image: x, configs: [c]}\nconfigs: {c: {file: x, content: y}}\n",
       "expected exactly one of file"},
      {"services:\n  a: {image: x, volumes: ['v:/v']}\nvolumes: {v: {external: true, driver: local}}\n",
       "it is external"},
      {"services:\n  a: {image: x, environment: ['=x']}\n", "a name is missing before"},
      {"services:\n  a: {image: x, command: \"echo 'x\"}\n", "the quotation mark ' is never closed"},
      {"services:\n  a: {image: x, cap_add: [A, A]}\n", "\"A\" is there twice"},
      {"services:\n  a: {image: x, ports: [{published: 80}]}\n", "the key \"target\" is missing"},
      {"- a\n", "the file: expected a map, this is a list"},
      {"", "the file is empty"},
      {"services: {a: {image: x}\n", "not valid YAML"},
  };
  for (const Case& one : cases) {
    SampleFolder folder;
    folder.write("compose.yaml", one.text);
    EXPECT_THAT(project_error(folder), HasSubstr(one.error)) << one.text;
  }
}

TEST(Project, FilesAreMerged) {
  SampleFolder folder;
  folder.write("a.yaml",
               "services:\n  web:\n    image: a\n    command: one two\n    ports: ['80:80', '81:81']\n"
               "    environment: {A: 1, B: 2}\n    volumes: ['./x:/data', 'v:/v']\n    dns: [1.1.1.1]\n"
               "    logging: {driver: json-file, options: {max-size: 1m}}\n    labels: {k: v}\n"
               "volumes: {v: {}}\n");
  folder.write(
      "b.yaml",
      "services:\n  web:\n    command: [three]\n    ports: ['80:80', '82:82']\n    environment: ['B=3', 'C=4']\n"
      "    volumes: ['./y:/data']\n    dns: 8.8.8.8\n    logging: {driver: none}\n    labels: !reset null\n"
      "  command: {image: c}\n");
  folder.write("c.yaml", "services:\n  web:\n    ports: !override ['99:99']\n    environment: {A: !reset null}\n");
  LoadOptions options = folder.options();
  options.files = {"a.yaml", "b.yaml", "c.yaml"};
  auto project = load_project(options);
  ASSERT_TRUE(project.ok()) << project.error().message();
  const Node& web = *project->document.find("services")->find("web");
  EXPECT_EQ(print_json(*web.find("command")), R"(["three"])");
  EXPECT_EQ(web.find("ports")->list.size(), 1u);
  EXPECT_EQ(web.find("ports")->list[0].text_of("published"), "99");
  EXPECT_EQ(print_json(*web.find("environment")), R"({"B":"3","C":"4"})");
  EXPECT_EQ(web.find("volumes")->list.size(), 2u);
  EXPECT_EQ(web.find("volumes")->list[0].text_of("source"), folder.path() + "/y");
  EXPECT_EQ(print_json(*web.find("dns")), R"(["1.1.1.1","8.8.8.8"])");
  EXPECT_EQ(print_json(*web.find("logging")), R"({"driver":"none"})");
  EXPECT_EQ(web.find("labels"), nullptr);
  EXPECT_EQ(project->files.size(), 3u);
}

TEST(Project, ExtendsAndIncludes) {
  SampleFolder folder;
  folder.write("common/base.yaml",
               "services:\n  base:\n    image: base\n    environment: {A: 1, B: 2}\n    volumes: ['./here:/here']\n"
               "  middle:\n    extends: base\n    environment: {B: 3}\n    ports: ['1:1']\n");
  folder.write("lib/compose.yaml",
               "services:\n  helper: {image: \"${WHO:-nobody}\", volumes: ['./data:/d'], depends_on: [more]}\n"
               "include: [{path: deeper/more.yaml, project_directory: .}]\n");
  folder.write("lib/.env", "WHO=from-env\n");
  folder.write("lib/deeper/more.yaml", "services: {more: {image: m, volumes: ['./q:/q']}}\n");
  folder.write(
      "compose.yaml",
      "include: [lib/compose.yaml]\nservices:\n  web:\n    extends: {file: common/base.yaml, service: middle}\n"
      "    environment: {C: 4}\n    depends_on: [helper]\n");
  auto project = folder.load();
  ASSERT_TRUE(project.ok()) << project.error().message();
  const Node& services = *project->document.find("services");
  const Node& web = *services.find("web");
  EXPECT_EQ(web.text_of("image"), "base");
  EXPECT_EQ(print_json(*web.find("environment")), R"({"A":"1","B":"3","C":"4"})");
  EXPECT_EQ(web.find("volumes")->list[0].text_of("source"), folder.path() + "/common/here");
  EXPECT_EQ(web.find("extends"), nullptr);
  EXPECT_EQ(services.find("helper")->text_of("image"), "from-env");
  EXPECT_EQ(services.find("helper")->find("volumes")->list[0].text_of("source"), folder.path() + "/lib/data");
  EXPECT_EQ(services.find("more")->find("volumes")->list[0].text_of("source"), folder.path() + "/lib/q");
  folder.write("compose.yaml", "include: [lib/compose.yaml]\nservices: {helper: {image: other}}\n");
  EXPECT_THAT(project_error(folder), HasSubstr("services.helper is defined on"));
}

TEST(Project, PathsThatLeadOutOfTheFolderAreTold) {
  SampleFolder folder;
  folder.write("../outside/x.env", "A=1\n");
  std::filesystem::create_directory_symlink(folder.path() + "/../outside", folder.path() + "/link");
  folder.write("compose.yaml",
               "services:\n  a:\n    image: x\n    env_file: ../outside/x.env\n    volumes: ['./link/y:/y', "
               "'/etc:/etc', './in:/in']\n");
  const auto project = folder.load();
  ASSERT_TRUE(project.ok());
  ASSERT_EQ(project->notices.lines().size(), 2u);
  EXPECT_THAT(project->notices.lines()[0],
              HasSubstr("compose.yaml:4: services.a: env_file ../outside/x.env leads out of the project's folder"));
  EXPECT_THAT(project->notices.lines()[1], HasSubstr("compose.yaml:5: services.a: volume ./link/y leads out"));
}

TEST(Project, NamesAndProfiles) {
  SampleFolder folder;
  folder.write("compose.yaml",
               "services:\n  foo: {image: foo}\n  bar: {image: bar, profiles: [test]}\n"
               "  baz: {image: baz, depends_on: [bar], profiles: [test]}\n  zot: {image: zot, depends_on: [bar], "
               "profiles: [debug]}\n");
  const auto services = [&](std::vector<std::string> profiles, const std::vector<std::string>& targets) -> std::string {
    LoadOptions options = folder.options();
    options.profiles = std::move(profiles);
    auto project = load_project(options);
    if (!project.ok()) return project.error().message();
    auto model = build_model(*project, targets);
    if (!model.ok()) return model.error().message();
    std::string out;
    for (const Service& one : model->services) out += one.name + " ";
    return out;
  };
  // The example of the specification's chapter on profiles.
  EXPECT_EQ(services({}, {}), "foo ");
  EXPECT_EQ(services({"test"}, {}), "bar baz foo ");
  EXPECT_THAT(services({"debug"}, {}), HasSubstr("which the active profiles leave out (its profiles: test)"));
  EXPECT_EQ(services({"debug", "test"}, {}), "bar baz foo zot ");
  EXPECT_EQ(services({}, {"bar"}), "bar baz foo ");
  EXPECT_THAT(services({}, {"zot"}), HasSubstr("leave out"));
  EXPECT_EQ(services({"*"}, {}), "bar baz foo zot ");
  EXPECT_EQ(folder.load()->name, "demo");
  LoadOptions options = folder.options();
  options.project_name = "Other";
  EXPECT_THAT(load_project(options).error().message(), HasSubstr("--project-name: \"Other\""));
  options.project_name.clear();
  options.environment = {{"COMPOSE_PROJECT_NAME", "env"}};
  EXPECT_EQ(load_project(options)->name, "env");
  EXPECT_EQ(project_name_from("/a/My Project.1"), "myproject1");
  folder.write(".env", "COMPOSE_PROJECT_NAME=dotted\nCOMPOSE_PROFILES=test,debug\n");
  EXPECT_EQ(folder.load()->name, "dotted");
  EXPECT_EQ(services({}, {}), "bar baz foo zot ");
}

Result<engine::Config> config_of(const SampleFolder& folder, const std::string& service, int number = 1) {
  TRY_ASSIGN(const Project project, folder.load());
  TRY_ASSIGN(const Model model, build_model(project, {service}));
  ServiceRequest request;
  request.number = number;
  request.container_of = [](const std::string& name) -> Result<std::string> { return "id-of-" + name; };
  return make_config(model, *model.find(service), request, {});
}

TEST(ServiceConfig, IsTheEnginesRequest) {
  SampleFolder folder;
  folder.write("compose.yaml", *sys::read_file(std::string(HULL_SOURCE_DIR) + "/src/compose/testdata/full.yaml"));
  folder.write("web.env", "");
  folder.write("token", "x");
  const auto config = config_of(folder, "web", 2);
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->name, "full-web-2");
  EXPECT_EQ(config->image, "nginx:1.25");
  EXPECT_THAT(config->cmd, ElementsAre("nginx", "-g", "daemon off;"));
  EXPECT_EQ(config->nano_cpus, 500'000'000);
  EXPECT_EQ(config->memory, 64 << 20);
  EXPECT_EQ(config->restart.name, "unless-stopped");
  EXPECT_EQ(config->ports.size(), 4u);
  EXPECT_EQ(config->ports[1].host_ip, "127.0.0.1");
  ASSERT_EQ(config->networks.size(), 2u);
  EXPECT_EQ(config->networks[0].network, "full_back");
  EXPECT_THAT(config->networks[0].aliases, ElementsAre("web"));
  ASSERT_TRUE(config->healthcheck);
  EXPECT_THAT(config->healthcheck->test, ElementsAre("CMD-SHELL", "curl -f http://localhost"));
  EXPECT_EQ(config->healthcheck->interval_ns, 5'000'000'000);
  EXPECT_EQ(config->labels.at("com.docker.compose.project"), "full");
  EXPECT_EQ(config->labels.at("com.docker.compose.service"), "web");
  EXPECT_EQ(config->labels.at("com.docker.compose.container-number"), "2");
  EXPECT_EQ(config->labels.at("com.docker.compose.oneoff"), "False");
  EXPECT_EQ(config->labels.at("com.docker.compose.depends_on"), "db:service_started:false");
  EXPECT_EQ(config->ulimits.size(), 2u);
  EXPECT_EQ(config->mounts.size(), 5u);
  EXPECT_EQ(config->mounts[3].tmpfs_size, 64 << 20);
  EXPECT_EQ(config->mounts[3].tmpfs_mode, 0700u);
  const auto one_off = config_of(folder, "web", 0);
  ASSERT_TRUE(one_off.ok());
  EXPECT_TRUE(one_off->ports.empty());
  EXPECT_TRUE(one_off->networks[0].aliases.empty());
  EXPECT_EQ(one_off->labels.at("com.docker.compose.oneoff"), "True");
}

TEST(ServiceConfig, MachinesAndSharedNamespaces) {
  SampleFolder folder;
  folder.write(
      "compose.yaml",
      "services:\n  a: {image: x, isolation: vm}\n  b: {image: x, runtime: hull-vm}\n"
      "  c: {image: x, network_mode: 'service:a', pid: 'service:a', ipc: host}\n  d: {image: x, runtime: kata}\n"
      "  e: {image: x, deploy: {restart_policy: {condition: on-failure, max_attempts: 4}}}\n"
      "  f: {image: x, restart: on-failure:x}\n  g: {image: x, mem_limit: lots}\n  h: {image: x, restart: "
      "'on-failure:3'}\n"
      "  i: {image: x, healthcheck: {test: [RUN, x]}}\n  j: {image: x, healthcheck: {disable: true}}\n");
  EXPECT_EQ(config_of(folder, "a")->isolation, engine::Isolation::kVm);
  EXPECT_EQ(config_of(folder, "b")->isolation, engine::Isolation::kVm);
  const auto c = config_of(folder, "c");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->network, "container:id-of-a");
  EXPECT_EQ(c->pid_mode, "container:id-of-a");
  EXPECT_EQ(c->ipc_mode, "host");
  EXPECT_TRUE(c->networks.empty());
  EXPECT_THAT(config_of(folder, "d").error().message(),
              HasSubstr("compose.yaml:5: services.d.runtime: \"kata\" is not there"));
  EXPECT_EQ(config_of(folder, "e")->restart.name, "on-failure");
  EXPECT_EQ(config_of(folder, "e")->restart.maximum_retries, 4);
  EXPECT_THAT(config_of(folder, "f").error().message(), HasSubstr("compose.yaml:7: services.f.restart"));
  EXPECT_THAT(config_of(folder, "g").error().message(), HasSubstr("compose.yaml:8: services.g.mem_limit"));
  EXPECT_EQ(config_of(folder, "h")->restart.maximum_retries, 3);
  EXPECT_THAT(config_of(folder, "i").error().message(), HasSubstr("begins with NONE, CMD or CMD-SHELL"));
  EXPECT_THAT(config_of(folder, "j")->healthcheck->test, ElementsAre("NONE"));
}

TEST(ServiceConfig, TheHashSaysWhetherAContainerMustBeMadeAnew) {
  const auto hash = [](std::string_view service) {
    SampleFolder folder;
    folder.write("compose.yaml", fmt::format("services:\n  a: {{{}}}\n  b: {{image: y}}\n", service));
    auto project = load_project([&] {
      LoadOptions options = folder.options();
      options.project_name = "p";
      return options;
    }());
    EXPECT_TRUE(project.ok());
    auto model = build_model(*project, {});
    EXPECT_TRUE(model.ok());
    return *config_hash(*model, *model->find("a"), {});
  };
  const std::string plain = hash("image: x");
  EXPECT_EQ(plain.size(), 64u);
  EXPECT_EQ(hash("image: x, scale: 3"), plain);
  EXPECT_EQ(hash("image: x, depends_on: [b], pull_policy: always"), plain);
  EXPECT_NE(hash("image: z"), plain);
  EXPECT_NE(hash("image: x, environment: {A: 1}"), plain);
  EXPECT_NE(hash("image: x, labels: {A: 1}"), hash("image: x, environment: {A: 1}"));
  EXPECT_EQ(hash("image: x, environment: {A: 1, B: 2}"), hash("image: x, environment: ['B=2', 'A=1']"));
}

TEST(ServiceConfig, SaysWhatItDoesNotDo) {
  const auto supported = [](std::string_view service) -> std::string {
    SampleFolder folder;
    folder.write("compose.yaml", fmt::format("services:\n  a: {{{}}}\n", service));
    auto project = folder.load();
    if (!project.ok()) return project.error().message();
    auto model = build_model(*project, {});
    if (!model.ok()) return model.error().message();
    Notices notices;
    auto checked = check_supported(model->services[0], notices);
    if (!checked.ok()) return checked.error().message();
    return notices.lines().empty() ? "" : notices.lines()[0];
  };
  EXPECT_EQ(supported("image: x"), "");
  EXPECT_THAT(supported("build: ."), HasSubstr("compose.yaml:2: services.a: build is not in this version of Hull"));
  EXPECT_THAT(supported("build: ., image: x"), HasSubstr("the image x is used as it is"));
  EXPECT_THAT(supported("image: x, develop: {watch: []}"), HasSubstr("develop is ignored"));
  EXPECT_THAT(supported("image: x, gpus: all"), HasSubstr("gpus are not in this version"));
  EXPECT_THAT(supported("provider: {type: x}"), HasSubstr("provider is not in this version"));
  EXPECT_THAT(supported("image: x, deploy: {placement: {constraints: []}}"), HasSubstr("placement is ignored"));
  EXPECT_THAT(supported("image: x, deploy: {mode: global-job}"), HasSubstr("belongs to a cluster"));
}

TEST(Files, ConfigsAndSecretsWithContentAreWritten) {
  SampleFolder folder;
  folder.write("compose.yaml",
               "services:\n  a:\n    image: x\n    configs: [c, {source: c, target: /etc/c, mode: '0440'}]\n"
               "    secrets: [s, f]\nconfigs: {c: {content: \"hello $$X\\n\"}}\nsecrets: {s: {environment: TOKEN}, f: "
               "{file: ./f}}\n");
  folder.write("f", "x");
  folder.write(".env", "TOKEN=t0p\n");
  auto project = folder.load();
  ASSERT_TRUE(project.ok()) << project.error().message();
  auto model = build_model(*project, {});
  ASSERT_TRUE(model.ok()) << model.error().message();
  const std::string data = folder.path() + "/data";
  const auto files = service_files(*model, model->services[0], data, true);
  ASSERT_TRUE(files.ok()) << files.error().message();
  ASSERT_EQ(files->size(), 4u);
  EXPECT_EQ((*files)[0].target, "/c");
  EXPECT_EQ(*sys::read_file((*files)[0].source), "hello $X\n");
  EXPECT_EQ((*files)[1].target, "/etc/c");
  EXPECT_EQ((*files)[2].target, "/run/secrets/s");
  EXPECT_EQ(*sys::read_file((*files)[2].source), "t0p");
  EXPECT_EQ((*files)[3].source, folder.path() + "/f");
  EXPECT_EQ(std::filesystem::status((*files)[1].source).permissions(), std::filesystem::perms(0440));
}

TEST(Canonical, CommandsAreSplitAsAShellDoes) {
  EXPECT_THAT(*split_command("a 'b c' \"d \\\" e\" f\\ g  h''"), ElementsAre("a", "b c", "d \" e", "f g", "h"));
  EXPECT_THAT(*split_command("  "), ElementsAre());
  EXPECT_FALSE(split_command("a 'b").ok());
}

}  // namespace
}  // namespace hull::compose
