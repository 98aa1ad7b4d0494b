#include <gmock/gmock.h>

#include "compose/kube_container.h"
#include "compose/sample.h"

namespace hull::compose {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<PodPlan> plan(std::string_view text, const std::vector<std::string>& networks = {}) {
  TRY_ASSIGN(KubeFile file, read_kube_file(text, intern_file("k.yaml"), {}));
  if (file.pods.empty()) return errorf(ErrorKind::kNotFound, "no pod");
  return plan_pod(file.pods[0], file, networks, "/data");
}

std::string pod(std::string_view container, std::string_view spec = "") {
  return fmt::format(
      "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: a}}}}\nspec: {{containers: [{{name: c, image: "
      "i{}{}}}]{}{}}}\n",
      container.empty() ? "" : ", ", container, spec.empty() ? "" : ", ", spec);
}

std::string plan_error(std::string_view text) {
  const auto planned = plan(text);
  return planned.ok() ? "no error" : planned.error().message();
}

TEST(Kube, Quantities) {
  EXPECT_EQ(*parse_quantity("500m", 1'000'000'000), 500'000'000);
  EXPECT_EQ(*parse_quantity("2", 1'000'000'000), 2'000'000'000);
  EXPECT_EQ(*parse_quantity("128Mi", 1), 128 << 20);
  EXPECT_EQ(*parse_quantity("1G", 1), 1'000'000'000);
  EXPECT_EQ(*parse_quantity("0.5Ki", 1), 512);
  EXPECT_EQ(*parse_quantity("1e3", 1), 1000);
  for (const std::string_view wrong : {"", "x", "-1", "1X", "999999999999P", "1 Mi"})
    EXPECT_FALSE(parse_quantity(wrong, 1).ok()) << wrong;
}

TEST(Kube, Base64) {
  EXPECT_EQ(*decode_base64(""), "");
  EXPECT_EQ(*decode_base64("Zg=="), "f");
  EXPECT_EQ(*decode_base64("Zm8="), "fo");
  EXPECT_EQ(*decode_base64("Zm9v"), "foo");
  EXPECT_EQ(*decode_base64("Zm9v\nYmFy"), "foobar");
  EXPECT_EQ(*decode_base64("//79"), "\xff\xfe\xfd");
  for (const std::string_view wrong : {"Z", "Zg", "Zg=", "Zm9v=", "Z!==", "Zg==Zg=="})
    EXPECT_FALSE(decode_base64(wrong).ok()) << wrong;
}

TEST(Kube, APodSharesOneNetwork) {
  const auto planned =
      plan(pod("ports: [{containerPort: 80, hostPort: 8080}], command: [run, $(A)], args: [$$x, $(B)], "
               "env: [{name: A, value: one}], tty: true, workingDir: /w",
               "hostname: h, restartPolicy: OnFailure, terminationGracePeriodSeconds: 3"));
  ASSERT_TRUE(planned.ok()) << planned.error().message();
  ASSERT_TRUE(planned->infra);
  const engine::Config& infra = planned->infra->config;
  EXPECT_EQ(infra.name, "p-infra");
  EXPECT_EQ(infra.hostname, "h");
  ASSERT_EQ(infra.ports.size(), 1u);
  EXPECT_EQ(infra.ports[0].host_port, 8080);
  ASSERT_EQ(infra.networks.size(), 1u);
  EXPECT_EQ(infra.networks[0].network, kKubeNetwork);
  ASSERT_EQ(planned->containers.size(), 1u);
  const engine::Config& config = planned->containers[0].config;
  EXPECT_EQ(config.name, "p-c");
  EXPECT_EQ(config.network, "container:p-infra");
  EXPECT_EQ(config.ipc_mode, "container:p-infra");
  EXPECT_THAT(*config.entrypoint, ElementsAre("run", "one"));
  EXPECT_THAT(config.cmd, ElementsAre("$x", "$(B)"));
  EXPECT_EQ(config.restart.name, "on-failure");
  EXPECT_EQ(config.stop_timeout_s, 3);
  EXPECT_TRUE(config.tty);
}

TEST(Kube, ProbesBecomeHealthChecks) {
  const auto health = [](std::string_view probe) {
    const auto planned =
        plan(pod(fmt::format("ports: [{{name: web, containerPort: 80}}], livenessProbe: {{{}}}", probe)));
    EXPECT_TRUE(planned.ok()) << planned.error().message();
    return planned->containers[0].config;
  };
  const auto exec = health("exec: {command: [a, b]}, periodSeconds: 2, failureThreshold: 5, initialDelaySeconds: 7");
  EXPECT_THAT(exec.healthcheck->test, ElementsAre("CMD", "a", "b"));
  EXPECT_EQ(exec.healthcheck->interval_ns, 2'000'000'000);
  EXPECT_EQ(exec.healthcheck->start_period_ns, 7'000'000'000);
  EXPECT_EQ(exec.healthcheck->retries, 5);
  EXPECT_EQ(exec.health_on_failure, "restart");
  EXPECT_THAT(health("httpGet: {path: \"/x'y\", port: web}").healthcheck->test[1],
              HasSubstr("'http://127.0.0.1:80/x'\\''y'"));
  EXPECT_THAT(health("tcpSocket: {port: 5432}").healthcheck->test[1], HasSubstr("nc -z -w 5 '127.0.0.1' 5432"));
  EXPECT_THAT(plan_error(pod("livenessProbe: {grpc: {port: 1}}")), HasSubstr("a probe of this kind"));
  EXPECT_THAT(plan_error(pod("livenessProbe: {tcpSocket: {port: gone}}")), HasSubstr("\"gone\" is no port"));
}

TEST(Kube, ServicesAndDeployments) {
  const std::string text = std::string(
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2, template: {metadata: {labels: "
      "{app: a}}, "
      "spec: {containers: [{name: c, image: i, ports: [{name: web, containerPort: 8000}]}]}}}\n---\n"
      "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, selector: {app: a}, "
      "ports: [{port: 80, targetPort: web, nodePort: 30080}]}\n");
  auto file = read_kube_file(text, intern_file("k.yaml"), {});
  ASSERT_TRUE(file.ok()) << file.error().message();
  ASSERT_EQ(file->pods.size(), 2u);
  EXPECT_EQ(file->pods[0].name, "d-pod");
  EXPECT_EQ(file->pods[1].name, "d-pod-2");
  const auto first = plan_pod(file->pods[0], *file, {}, "/data");
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_THAT(first->infra->config.networks[0].aliases, ElementsAre("d-pod", "s"));
  ASSERT_EQ(first->infra->config.ports.size(), 1u);
  EXPECT_EQ(first->infra->config.ports[0].host_port, 30080);
  EXPECT_EQ(first->infra->config.ports[0].container_port, 8000);
  EXPECT_TRUE(plan_pod(file->pods[1], *file, {}, "/data")->infra->config.ports.empty());
}

TEST(Kube, AMachineIsAPodOfItsOwn) {
  const auto planned = plan(pod("", "runtimeClassName: hull-vm"));
  ASSERT_TRUE(planned.ok()) << planned.error().message();
  EXPECT_FALSE(planned->infra);
  EXPECT_EQ(planned->containers[0].config.isolation, engine::Isolation::kVm);
  EXPECT_EQ(planned->containers[0].config.network, kKubeNetwork);
  EXPECT_THAT(plan_error(pod("", "runtimeClassName: gvisor")), HasSubstr("\"gvisor\" is not there"));
}

TEST(Kube, RefusesWithThePlace) {
  EXPECT_THAT(plan_error(pod("imgae: x")),
              HasSubstr("k.yaml:4: spec.containers[0].imgae: unknown key (did you mean \"image\"?)"));
  EXPECT_THAT(plan_error(pod("", "hostNetwork: 3")), HasSubstr("expected true or false"));
  EXPECT_THAT(plan_error(pod("", "restartPolicy: Maybe")), HasSubstr("expected Always, OnFailure or Never"));
  EXPECT_THAT(plan_error(pod("", "volumes: [{name: v, nfs: {server: x}}]")), HasSubstr("volumes of type nfs"));
  EXPECT_THAT(plan_error(pod("volumeMounts: [{name: v, mountPath: /x, subPath: ../y}]",
                             "volumes: [{name: v, hostPath: {path: /srv}}]")),
              HasSubstr("must lead into the volume"));
  EXPECT_THAT(plan_error(pod("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]")),
              HasSubstr("there is no key \"k\""));
  EXPECT_THAT(plan_error(pod("lifecycle: {postStart: {}}")), HasSubstr("lifecycle is not in this version"));
  EXPECT_THAT(plan_error("apiVersion: v2\nkind: Pod\nmetadata: {name: x}\n"), HasSubstr("Pod is understood as v1"));
  EXPECT_THAT(plan_error("- x\n"), HasSubstr("expected an object"));
}

}  // namespace
}  // namespace hull::compose
