#include "compose/kube_schema.h"

namespace hull::compose {
namespace {

constexpr Shape kString = {.types = kText};
constexpr Shape kWhole = {.types = kInt};
constexpr Shape kFlag = {.types = kBool};
constexpr Shape kScalar = {.types = kText | kNumber};
constexpr Shape kStrings = {.types = kList, .items = &kString};
constexpr Shape kPairs = {.types = kMap, .others = &kString};
constexpr Shape kAnything = {
    .types = kNumber | kText | kBool | kList | kMap, .items = &kAnything, .others = &kAnything};

constexpr Property kMetadataKeys[] = {{"name", &kString},
                                      {"namespace", &kString},
                                      {"labels", &kPairs},
                                      {"annotations", &kPairs},
                                      {"generateName", &kString},
                                      {"uid", &kString},
                                      {"creationTimestamp", &kAnything},
                                      {"resourceVersion", &kAnything},
                                      {"generation", &kAnything},
                                      {"managedFields", &kAnything},
                                      {"ownerReferences", &kAnything},
                                      {"finalizers", &kAnything},
                                      {"selfLink", &kAnything}};
constexpr Shape kMetadata = {.types = kMap, .properties = kMetadataKeys};

constexpr Property kKeyRefKeys[] = {{"name", &kString}, {"key", &kString}, {"optional", &kFlag}};
constexpr Shape kKeyRef = {.types = kMap, .properties = kKeyRefKeys, .required = "name key"};
constexpr Property kFieldRefKeys[] = {{"apiVersion", &kString}, {"fieldPath", &kString}};
constexpr Shape kFieldRef = {.types = kMap, .properties = kFieldRefKeys, .required = "fieldPath"};
constexpr Property kValueFromKeys[] = {{"configMapKeyRef", &kKeyRef},
                                       {"secretKeyRef", &kKeyRef},
                                       {"fieldRef", &kFieldRef},
                                       {"resourceFieldRef", &kAnything}};
constexpr Shape kValueFrom = {.types = kMap, .properties = kValueFromKeys};
constexpr Property kEnvKeys[] = {{"name", &kString}, {"value", &kString}, {"valueFrom", &kValueFrom}};
constexpr Shape kEnv = {.types = kMap, .properties = kEnvKeys, .required = "name"};
constexpr Shape kEnvs = {.types = kList, .items = &kEnv};
constexpr Property kNameRefKeys[] = {{"name", &kString}, {"optional", &kFlag}};
constexpr Shape kNameRef = {.types = kMap, .properties = kNameRefKeys, .required = "name"};
constexpr Property kEnvFromKeys[] = {{"configMapRef", &kNameRef}, {"secretRef", &kNameRef}, {"prefix", &kString}};
constexpr Shape kEnvFrom = {.types = kMap, .properties = kEnvFromKeys};
constexpr Shape kEnvFroms = {.types = kList, .items = &kEnvFrom};

constexpr Property kPortKeys[] = {{"containerPort", &kWhole},
                                  {"hostIP", &kString},
                                  {"hostPort", &kWhole},
                                  {"name", &kString},
                                  {"protocol", &kString}};
constexpr Shape kPort = {.types = kMap, .properties = kPortKeys, .required = "containerPort"};
constexpr Shape kPorts = {.types = kList, .items = &kPort};

constexpr Property kExecKeys[] = {{"command", &kStrings}};
constexpr Shape kExec = {.types = kMap, .properties = kExecKeys, .required = "command"};
constexpr Property kHttpKeys[] = {
    {"host", &kString}, {"httpHeaders", &kAnything}, {"path", &kString}, {"port", &kScalar}, {"scheme", &kString}};
constexpr Shape kHttp = {.types = kMap, .properties = kHttpKeys, .required = "port"};
constexpr Property kTcpKeys[] = {{"host", &kString}, {"port", &kScalar}};
constexpr Shape kTcp = {.types = kMap, .properties = kTcpKeys, .required = "port"};
constexpr Property kProbeKeys[] = {{"exec", &kExec},
                                   {"failureThreshold", &kWhole},
                                   {"grpc", &kAnything},
                                   {"httpGet", &kHttp},
                                   {"initialDelaySeconds", &kWhole},
                                   {"periodSeconds", &kWhole},
                                   {"successThreshold", &kWhole},
                                   {"tcpSocket", &kTcp},
                                   {"terminationGracePeriodSeconds", &kWhole},
                                   {"timeoutSeconds", &kWhole}};
constexpr Shape kProbe = {.types = kMap, .properties = kProbeKeys};

constexpr Property kResourceKeys[] = {{"claims", &kAnything}, {"limits", &kAnything}, {"requests", &kAnything}};
constexpr Shape kResources = {.types = kMap, .properties = kResourceKeys};

constexpr Property kCapabilityKeys[] = {{"add", &kStrings}, {"drop", &kStrings}};
constexpr Shape kCapabilities = {.types = kMap, .properties = kCapabilityKeys};
constexpr Property kSeccompKeys[] = {{"localhostProfile", &kString}, {"type", &kString}};
constexpr Shape kSeccomp = {.types = kMap, .properties = kSeccompKeys};
constexpr Property kSecurityKeys[] = {{"allowPrivilegeEscalation", &kFlag},
                                      {"appArmorProfile", &kAnything},
                                      {"capabilities", &kCapabilities},
                                      {"privileged", &kFlag},
                                      {"procMount", &kString},
                                      {"readOnlyRootFilesystem", &kFlag},
                                      {"runAsGroup", &kWhole},
                                      {"runAsNonRoot", &kFlag},
                                      {"runAsUser", &kWhole},
                                      {"seLinuxOptions", &kAnything},
                                      {"seccompProfile", &kSeccomp},
                                      {"windowsOptions", &kAnything}};
constexpr Shape kSecurity = {.types = kMap, .properties = kSecurityKeys};

constexpr Property kMountKeys[] = {{"mountPath", &kString},  {"mountPropagation", &kString},  {"name", &kString},
                                   {"readOnly", &kFlag},     {"recursiveReadOnly", &kString}, {"subPath", &kString},
                                   {"subPathExpr", &kString}};
constexpr Shape kMount = {.types = kMap, .properties = kMountKeys, .required = "name mountPath"};
constexpr Shape kMounts = {.types = kList, .items = &kMount};

constexpr Property kContainerKeys[] = {{"args", &kStrings},
                                       {"command", &kStrings},
                                       {"env", &kEnvs},
                                       {"envFrom", &kEnvFroms},
                                       {"image", &kString},
                                       {"imagePullPolicy", &kString},
                                       {"lifecycle", &kAnything},
                                       {"livenessProbe", &kProbe},
                                       {"name", &kString},
                                       {"ports", &kPorts},
                                       {"readinessProbe", &kProbe},
                                       {"resizePolicy", &kAnything},
                                       {"resources", &kResources},
                                       {"restartPolicy", &kString},
                                       {"securityContext", &kSecurity},
                                       {"startupProbe", &kProbe},
                                       {"stdin", &kFlag},
                                       {"stdinOnce", &kFlag},
                                       {"terminationMessagePath", &kString},
                                       {"terminationMessagePolicy", &kString},
                                       {"tty", &kFlag},
                                       {"volumeDevices", &kAnything},
                                       {"volumeMounts", &kMounts},
                                       {"workingDir", &kString}};
constexpr Shape kContainer = {.types = kMap, .properties = kContainerKeys, .needed = true, .required = "name image"};
constexpr Shape kContainers = {.types = kList, .items = &kContainer};

constexpr Property kItemKeys[] = {{"key", &kString}, {"mode", &kWhole}, {"path", &kString}};
constexpr Shape kItem = {.types = kMap, .properties = kItemKeys, .required = "key path"};
constexpr Shape kItems = {.types = kList, .items = &kItem};
constexpr Property kConfigVolumeKeys[] = {
    {"defaultMode", &kWhole}, {"items", &kItems}, {"name", &kString}, {"optional", &kFlag}};
constexpr Shape kConfigVolume = {.types = kMap, .properties = kConfigVolumeKeys, .required = "name"};
constexpr Property kSecretVolumeKeys[] = {
    {"defaultMode", &kWhole}, {"items", &kItems}, {"optional", &kFlag}, {"secretName", &kString}};
constexpr Shape kSecretVolume = {.types = kMap, .properties = kSecretVolumeKeys, .required = "secretName"};
constexpr Property kEmptyDirKeys[] = {{"medium", &kString}, {"sizeLimit", &kScalar}};
constexpr Shape kEmptyDir = {.types = kMap, .properties = kEmptyDirKeys};
constexpr Property kHostPathKeys[] = {{"path", &kString}, {"type", &kString}};
constexpr Shape kHostPath = {.types = kMap, .properties = kHostPathKeys, .required = "path"};
constexpr Property kClaimKeys[] = {{"claimName", &kString}, {"readOnly", &kFlag}};
constexpr Shape kClaim = {.types = kMap, .properties = kClaimKeys, .required = "claimName"};
constexpr Property kVolumeKeys[] = {{"name", &kString},
                                    {"configMap", &kConfigVolume},
                                    {"secret", &kSecretVolume},
                                    {"emptyDir", &kEmptyDir},
                                    {"hostPath", &kHostPath},
                                    {"persistentVolumeClaim", &kClaim},
                                    {"awsElasticBlockStore", &kAnything},
                                    {"csi", &kAnything},
                                    {"downwardAPI", &kAnything},
                                    {"ephemeral", &kAnything},
                                    {"fc", &kAnything},
                                    {"gitRepo", &kAnything},
                                    {"image", &kAnything},
                                    {"iscsi", &kAnything},
                                    {"nfs", &kAnything},
                                    {"projected", &kAnything}};
constexpr Shape kVolume = {.types = kMap, .properties = kVolumeKeys, .required = "name"};
constexpr Shape kVolumes = {.types = kList, .items = &kVolume};

constexpr Property kSysctlKeys[] = {{"name", &kString}, {"value", &kString}};
constexpr Shape kSysctl = {.types = kMap, .properties = kSysctlKeys, .required = "name value"};
constexpr Shape kSysctls = {.types = kList, .items = &kSysctl};
constexpr Property kPodSecurityKeys[] = {
    {"appArmorProfile", &kAnything}, {"fsGroup", &kWhole},          {"fsGroupChangePolicy", &kString},
    {"runAsGroup", &kWhole},         {"runAsNonRoot", &kFlag},      {"runAsUser", &kWhole},
    {"seLinuxOptions", &kAnything},  {"seccompProfile", &kSeccomp}, {"supplementalGroups", &kAnything},
    {"sysctls", &kSysctls},          {"windowsOptions", &kAnything}};
constexpr Shape kPodSecurity = {.types = kMap, .properties = kPodSecurityKeys};
constexpr Property kHostAliasKeys[] = {{"hostnames", &kStrings}, {"ip", &kString}};
constexpr Shape kHostAlias = {.types = kMap, .properties = kHostAliasKeys, .required = "ip hostnames"};
constexpr Shape kHostAliases = {.types = kList, .items = &kHostAlias};
constexpr Property kDnsOptionKeys[] = {{"name", &kString}, {"value", &kString}};
constexpr Shape kDnsOption = {.types = kMap, .properties = kDnsOptionKeys};
constexpr Shape kDnsOptions = {.types = kList, .items = &kDnsOption};
constexpr Property kDnsKeys[] = {{"nameservers", &kStrings}, {"options", &kDnsOptions}, {"searches", &kStrings}};
constexpr Shape kDns = {.types = kMap, .properties = kDnsKeys};

constexpr Property kPodKeys[] = {{"containers", &kContainers},
                                 {"initContainers", &kContainers},
                                 {"volumes", &kVolumes},
                                 {"restartPolicy", &kString},
                                 {"hostNetwork", &kFlag},
                                 {"hostPID", &kFlag},
                                 {"hostIPC", &kFlag},
                                 {"hostname", &kString},
                                 {"hostAliases", &kHostAliases},
                                 {"dnsConfig", &kDns},
                                 {"dnsPolicy", &kString},
                                 {"shareProcessNamespace", &kFlag},
                                 {"securityContext", &kPodSecurity},
                                 {"terminationGracePeriodSeconds", &kWhole},
                                 {"runtimeClassName", &kString},
                                 {"activeDeadlineSeconds", &kAnything},
                                 {"affinity", &kAnything},
                                 {"automountServiceAccountToken", &kAnything},
                                 {"enableServiceLinks", &kAnything},
                                 {"ephemeralContainers", &kAnything},
                                 {"imagePullSecrets", &kAnything},
                                 {"nodeName", &kAnything},
                                 {"nodeSelector", &kAnything},
                                 {"os", &kAnything},
                                 {"overhead", &kAnything},
                                 {"preemptionPolicy", &kAnything},
                                 {"priority", &kAnything},
                                 {"priorityClassName", &kAnything},
                                 {"readinessGates", &kAnything},
                                 {"resourceClaims", &kAnything},
                                 {"schedulerName", &kAnything},
                                 {"schedulingGates", &kAnything},
                                 {"serviceAccount", &kAnything},
                                 {"serviceAccountName", &kAnything},
                                 {"setHostnameAsFQDN", &kAnything},
                                 {"subdomain", &kAnything},
                                 {"tolerations", &kAnything},
                                 {"topologySpreadConstraints", &kAnything}};
constexpr Shape kPodSpec = {.types = kMap, .properties = kPodKeys, .needed = true, .required = "containers"};

constexpr Property kObjectKeys[] = {{"apiVersion", &kString},
                                    {"kind", &kString},
                                    {"metadata", &kMetadata},
                                    {"spec", &kPodSpec},
                                    {"status", &kAnything}};
constexpr Shape kPodObject = {.types = kMap, .properties = kObjectKeys, .required = "metadata spec"};

constexpr Property kTemplateKeys[] = {{"metadata", &kMetadata}, {"spec", &kPodSpec}};
constexpr Shape kTemplate = {.types = kMap, .properties = kTemplateKeys, .needed = true, .required = "spec"};
constexpr Property kDeploymentSpecKeys[] = {{"replicas", &kWhole},
                                            {"template", &kTemplate},
                                            {"selector", &kAnything},
                                            {"minReadySeconds", &kAnything},
                                            {"paused", &kAnything},
                                            {"progressDeadlineSeconds", &kAnything},
                                            {"revisionHistoryLimit", &kAnything},
                                            {"strategy", &kAnything}};
constexpr Shape kDeploymentSpec = {.types = kMap, .properties = kDeploymentSpecKeys, .required = "template"};
constexpr Property kDeploymentKeys[] = {{"apiVersion", &kString},
                                        {"kind", &kString},
                                        {"metadata", &kMetadata},
                                        {"spec", &kDeploymentSpec},
                                        {"status", &kAnything}};
constexpr Shape kDeployment = {.types = kMap, .properties = kDeploymentKeys, .required = "metadata spec"};

constexpr Property kConfigMapKeys[] = {{"apiVersion", &kString}, {"kind", &kString},      {"metadata", &kMetadata},
                                       {"data", &kPairs},        {"binaryData", &kPairs}, {"immutable", &kFlag}};
constexpr Shape kConfigMap = {.types = kMap, .properties = kConfigMapKeys, .required = "metadata"};
constexpr Property kSecretKeys[] = {{"apiVersion", &kString}, {"kind", &kString},      {"metadata", &kMetadata},
                                    {"data", &kPairs},        {"stringData", &kPairs}, {"type", &kString},
                                    {"immutable", &kFlag}};
constexpr Shape kSecret = {.types = kMap, .properties = kSecretKeys, .required = "metadata"};
constexpr Property kClaimObjectKeys[] = {{"apiVersion", &kString},
                                         {"kind", &kString},
                                         {"metadata", &kMetadata},
                                         {"spec", &kAnything},
                                         {"status", &kAnything}};
constexpr Shape kClaimObject = {.types = kMap, .properties = kClaimObjectKeys, .required = "metadata"};

constexpr Property kServicePortKeys[] = {{"appProtocol", &kString}, {"name", &kString},     {"nodePort", &kWhole},
                                         {"port", &kWhole},         {"protocol", &kString}, {"targetPort", &kScalar}};
constexpr Shape kServicePort = {.types = kMap, .properties = kServicePortKeys, .required = "port"};
constexpr Shape kServicePorts = {.types = kList, .items = &kServicePort};
constexpr Property kServiceSpecKeys[] = {{"ports", &kServicePorts},
                                         {"selector", &kPairs},
                                         {"type", &kString},
                                         {"allocateLoadBalancerNodePorts", &kAnything},
                                         {"clusterIP", &kAnything},
                                         {"clusterIPs", &kAnything},
                                         {"externalIPs", &kAnything},
                                         {"externalName", &kAnything},
                                         {"externalTrafficPolicy", &kAnything},
                                         {"internalTrafficPolicy", &kAnything},
                                         {"ipFamilies", &kAnything},
                                         {"ipFamilyPolicy", &kAnything},
                                         {"loadBalancerIP", &kAnything},
                                         {"publishNotReadyAddresses", &kAnything},
                                         {"sessionAffinity", &kAnything},
                                         {"sessionAffinityConfig", &kAnything}};
constexpr Shape kServiceSpec = {.types = kMap, .properties = kServiceSpecKeys};
constexpr Property kServiceKeys[] = {{"apiVersion", &kString},
                                     {"kind", &kString},
                                     {"metadata", &kMetadata},
                                     {"spec", &kServiceSpec},
                                     {"status", &kAnything}};
constexpr Shape kService = {.types = kMap, .properties = kServiceKeys, .required = "metadata spec"};

struct Kind {
  std::string_view kind, version;
  const Shape* shape;
};
constexpr Kind kKinds[] = {{"Pod", "v1", &kPodObject},       {"Deployment", "apps/v1", &kDeployment},
                           {"ConfigMap", "v1", &kConfigMap}, {"Secret", "v1", &kSecret},
                           {"Service", "v1", &kService},     {"PersistentVolumeClaim", "v1", &kClaimObject}};

}  // namespace

Result<void> check_kube_schema(const Node& document) {
  if (!document.is_map()) return errorf_at(document.mark, "expected an object with apiVersion, kind and metadata");
  const Node* kind = document.value("kind");
  const Node* version = document.value("apiVersion");
  if (kind == nullptr || version == nullptr) return errorf_at(document.mark, "apiVersion or kind is missing");
  for (const Kind& known : kKinds) {
    if (known.kind != kind->text) continue;
    if (known.version != version->text) {
      return errorf_at(version->mark, "apiVersion {:.60}: {} is understood as {}", version->text, known.kind,
                       known.version);
    }
    TRY(check_shape(document, *known.shape));
    const Node* metadata = document.find("metadata");
    if (metadata->text_of("name").empty()) return errorf_at(metadata->mark, "metadata.name is missing");
    return {};
  }
  return errorf_at(
             kind->mark,
             "kind {:.60} is not understood (there are Pod, Deployment, ConfigMap, Secret, PersistentVolumeClaim and "
             "Service)",
             kind->text)
      .as(ErrorKind::kUnsupported);
}

}  // namespace hull::compose
