#include "compose/schema.h"

#include "compose/shape.h"

namespace hull::compose {
namespace {

constexpr Shape kString = {.types = kText};
constexpr Shape kWhole = {.types = kInt};
constexpr Shape kFlag = {.types = kBool};
constexpr Shape kFlagText = {.types = kBool | kText};
constexpr Shape kWholeText = {.types = kInt | kText};
constexpr Shape kNumberText = {.types = kNumber | kText};
constexpr Shape kAnyScalar = {.types = kNumber | kText | kBool};
constexpr Shape kStrings = {.types = kList, .items = &kString};
constexpr Shape kUniqueStrings = {.types = kList, .items = &kString, .unique = true};
constexpr Shape kNumbersOrStrings = {.types = kList, .items = &kNumberText, .unique = true};
constexpr Shape kStringOrList = {.types = kText | kList, .items = &kString};
constexpr Shape kPairs = {.types = kList | kMap, .items = &kString, .others = &kAnyScalar};
constexpr Shape kScalars = {.types = kMap, .others = &kAnyScalar};
constexpr Shape kHosts = {.types = kList | kMap, .items = &kString, .others = &kStringOrList};
constexpr Shape kCommand = {.types = kText | kList, .items = &kString};
constexpr Shape kAnything = {
    .types = kNumber | kText | kBool | kList | kMap, .items = &kAnything, .others = &kAnything};

constexpr Property kFileRefKeys[] = {
    {"source", &kString}, {"target", &kString}, {"uid", &kString}, {"gid", &kString}, {"mode", &kNumberText}};
constexpr Shape kFileRef = {.types = kText | kMap, .properties = kFileRefKeys, .extensions = true, .needed = true};
constexpr Shape kFileRefs = {.types = kList, .items = &kFileRef};

constexpr Property kUlimitKeys[] = {{"hard", &kWholeText}, {"soft", &kWholeText}};
constexpr Shape kUlimit = {
    .types = kInt | kText | kMap, .properties = kUlimitKeys, .extensions = true, .required = "soft hard"};
constexpr Shape kUlimits = {.types = kMap, .others = &kUlimit};

constexpr Property kBuildKeys[] = {{"additional_contexts", &kPairs},
                                   {"args", &kPairs},
                                   {"cache_from", &kStrings},
                                   {"cache_to", &kStrings},
                                   {"context", &kString},
                                   {"dockerfile", &kString},
                                   {"dockerfile_inline", &kString},
                                   {"entitlements", &kStrings},
                                   {"extra_hosts", &kHosts},
                                   {"isolation", &kString},
                                   {"labels", &kPairs},
                                   {"network", &kString},
                                   {"no_cache", &kFlagText},
                                   {"platforms", &kStrings},
                                   {"privileged", &kFlagText},
                                   {"provenance", &kFlagText},
                                   {"pull", &kFlagText},
                                   {"sbom", &kFlagText},
                                   {"secrets", &kFileRefs},
                                   {"shm_size", &kWholeText},
                                   {"ssh", &kPairs},
                                   {"tags", &kStrings},
                                   {"target", &kString},
                                   {"ulimits", &kUlimits}};
constexpr Shape kBuild = {.types = kText | kMap, .properties = kBuildKeys, .extensions = true};

constexpr Property kRateKeys[] = {{"path", &kString}, {"rate", &kWholeText}};
constexpr Shape kRate = {.types = kMap, .properties = kRateKeys, .required = "path rate"};
constexpr Shape kRates = {.types = kList, .items = &kRate};
constexpr Property kWeightKeys[] = {{"path", &kString}, {"weight", &kWholeText}};
constexpr Shape kWeight = {.types = kMap, .properties = kWeightKeys, .required = "path weight"};
constexpr Shape kWeights = {.types = kList, .items = &kWeight};
constexpr Property kBlkioKeys[] = {{"device_read_bps", &kRates},  {"device_read_iops", &kRates},
                                   {"device_write_bps", &kRates}, {"device_write_iops", &kRates},
                                   {"weight", &kWholeText},       {"weight_device", &kWeights}};
constexpr Shape kBlkio = {.types = kMap, .properties = kBlkioKeys};

constexpr Property kCredentialKeys[] = {{"config", &kString}, {"file", &kString}, {"registry", &kString}};
constexpr Shape kCredential = {.types = kMap, .properties = kCredentialKeys, .extensions = true};

constexpr Shape kCondition = {.types = kText,
                              .words = "service_started service_healthy service_completed_successfully"};
constexpr Property kDependencyKeys[] = {{"condition", &kCondition}, {"required", &kFlag}, {"restart", &kFlagText}};
constexpr Shape kDependency = {
    .types = kMap, .properties = kDependencyKeys, .extensions = true, .needed = true, .required = "condition"};
constexpr Shape kDependsOn = {
    .types = kList | kMap, .items = &kString, .others = &kDependency, .names = true, .unique = true};

constexpr Property kGenericSpecKeys[] = {{"kind", &kString}, {"value", &kNumberText}};
constexpr Shape kGenericSpec = {.types = kMap, .properties = kGenericSpecKeys, .extensions = true};
constexpr Property kGenericKeys[] = {{"discrete_resource_spec", &kGenericSpec}};
constexpr Shape kGeneric = {.types = kMap, .properties = kGenericKeys, .extensions = true};
constexpr Shape kGenerics = {.types = kList, .items = &kGeneric};
constexpr Property kDeviceRequestKeys[] = {{"capabilities", &kUniqueStrings},
                                           {"count", &kWholeText},
                                           {"device_ids", &kUniqueStrings},
                                           {"driver", &kString},
                                           {"options", &kPairs}};
constexpr Shape kDeviceRequest = {.types = kMap, .properties = kDeviceRequestKeys, .extensions = true};
constexpr Shape kDeviceRequests = {.types = kList, .items = &kDeviceRequest};
constexpr Shape kGpus = {.types = kText | kList, .items = &kDeviceRequest, .words = "all"};

constexpr Property kLimitKeys[] = {{"cpus", &kNumberText}, {"memory", &kString}, {"pids", &kWholeText}};
constexpr Shape kLimits = {.types = kMap, .properties = kLimitKeys, .extensions = true};
constexpr Property kReservationKeys[] = {
    {"cpus", &kNumberText}, {"devices", &kDeviceRequests}, {"generic_resources", &kGenerics}, {"memory", &kString}};
constexpr Shape kReservations = {.types = kMap, .properties = kReservationKeys, .extensions = true};
constexpr Property kResourceKeys[] = {{"limits", &kLimits}, {"reservations", &kReservations}};
constexpr Shape kResources = {.types = kMap, .properties = kResourceKeys, .extensions = true};
constexpr Property kRestartKeys[] = {
    {"condition", &kString}, {"delay", &kString}, {"max_attempts", &kWholeText}, {"window", &kString}};
constexpr Shape kRestartPolicy = {.types = kMap, .properties = kRestartKeys, .extensions = true};
constexpr Shape kUpdateOrder = {.types = kText, .words = "start-first stop-first"};
constexpr Property kUpdateKeys[] = {
    {"delay", &kString},   {"failure_action", &kString}, {"max_failure_ratio", &kNumberText},
    {"monitor", &kString}, {"order", &kUpdateOrder},     {"parallelism", &kWholeText}};
constexpr Shape kUpdate = {.types = kMap, .properties = kUpdateKeys, .extensions = true};
constexpr Property kSpreadKeys[] = {{"spread", &kString}};
constexpr Shape kSpread = {.types = kMap, .properties = kSpreadKeys, .extensions = true};
constexpr Shape kSpreads = {.types = kList, .items = &kSpread};
constexpr Property kPlacementKeys[] = {
    {"constraints", &kStrings}, {"max_replicas_per_node", &kWholeText}, {"preferences", &kSpreads}};
constexpr Shape kPlacement = {.types = kMap, .properties = kPlacementKeys, .extensions = true};
constexpr Property kDeployKeys[] = {
    {"endpoint_mode", &kString},         {"labels", &kPairs},           {"mode", &kString},
    {"placement", &kPlacement},          {"replicas", &kWholeText},     {"resources", &kResources},
    {"restart_policy", &kRestartPolicy}, {"rollback_config", &kUpdate}, {"update_config", &kUpdate}};
constexpr Shape kDeploy = {.types = kMap, .properties = kDeployKeys, .extensions = true};

constexpr Property kDeviceKeys[] = {{"permissions", &kString}, {"source", &kString}, {"target", &kString}};
constexpr Shape kDevice = {
    .types = kText | kMap, .properties = kDeviceKeys, .extensions = true, .needed = true, .required = "source"};
constexpr Shape kDevices = {.types = kList, .items = &kDevice};

constexpr Property kEnvFileKeys[] = {{"format", &kString}, {"path", &kString}, {"required", &kFlagText}};
constexpr Shape kEnvFile = {.types = kText | kMap, .properties = kEnvFileKeys, .needed = true, .required = "path"};
constexpr Shape kEnvFiles = {.types = kText | kList, .items = &kEnvFile};

constexpr Property kExtendsKeys[] = {{"file", &kString}, {"service", &kString}};
constexpr Shape kExtends = {.types = kText | kMap, .properties = kExtendsKeys, .required = "service"};

constexpr Property kHealthKeys[] = {{"disable", &kFlagText},      {"interval", &kString},     {"retries", &kNumberText},
                                    {"start_interval", &kString}, {"start_period", &kString}, {"test", &kStringOrList},
                                    {"timeout", &kString}};
constexpr Shape kHealth = {.types = kMap, .properties = kHealthKeys, .extensions = true};

constexpr Property kHookKeys[] = {{"command", &kCommand},      {"environment", &kPairs},   {"image", &kString},
                                  {"per_replica", &kFlagText}, {"privileged", &kFlagText}, {"user", &kString},
                                  {"working_dir", &kString}};
constexpr Shape kHook = {.types = kMap, .properties = kHookKeys, .extensions = true, .needed = true};
constexpr Shape kHooks = {.types = kList, .items = &kHook};

constexpr Property kLoggingKeys[] = {{"driver", &kString}, {"options", &kScalars}};
constexpr Shape kLogging = {.types = kMap, .properties = kLoggingKeys, .extensions = true};

constexpr Property kModelRefKeys[] = {{"endpoint_var", &kString}, {"model_var", &kString}};
constexpr Shape kModelRef = {.types = kMap, .properties = kModelRefKeys, .extensions = true};
constexpr Shape kModelRefs = {.types = kList | kMap, .items = &kString, .others = &kModelRef, .names = true};

constexpr Property kServiceNetworkKeys[] = {
    {"aliases", &kUniqueStrings},        {"driver_opts", &kScalars}, {"gw_priority", &kNumberText},
    {"interface_name", &kString},        {"ipv4_address", &kString}, {"ipv6_address", &kString},
    {"link_local_ips", &kUniqueStrings}, {"mac_address", &kString},  {"priority", &kNumberText}};
constexpr Shape kServiceNetwork = {.types = kMap, .properties = kServiceNetworkKeys, .extensions = true};
constexpr Shape kServiceNetworks = {
    .types = kList | kMap, .items = &kString, .others = &kServiceNetwork, .names = true, .unique = true};

constexpr Property kPortKeys[] = {{"app_protocol", &kString}, {"host_ip", &kString},  {"mode", &kString},
                                  {"name", &kString},         {"protocol", &kString}, {"published", &kWholeText},
                                  {"target", &kWholeText}};
constexpr Shape kPort = {
    .types = kNumber | kText | kMap, .properties = kPortKeys, .extensions = true, .needed = true, .required = "target"};
constexpr Shape kPorts = {.types = kList, .items = &kPort};

constexpr Shape kOptionValue = {.types = kNumber | kText | kBool | kList, .items = &kAnyScalar};
constexpr Shape kProviderOptions = {.types = kMap, .others = &kOptionValue};
constexpr Property kProviderKeys[] = {{"options", &kProviderOptions}, {"type", &kString}};
constexpr Shape kProvider = {.types = kMap, .properties = kProviderKeys, .extensions = true, .required = "type"};

constexpr Shape kBindRecursive = {.types = kText, .words = "enabled disabled writable readonly"};
constexpr Shape kSelinux = {.types = kText, .words = "z Z"};
constexpr Property kBindKeys[] = {{"create_host_path", &kFlagText},
                                  {"propagation", &kString},
                                  {"recursive", &kBindRecursive},
                                  {"selinux", &kSelinux}};
constexpr Shape kBind = {.types = kMap, .properties = kBindKeys, .extensions = true};
constexpr Property kVolumeOptionKeys[] = {{"labels", &kPairs}, {"nocopy", &kFlagText}, {"subpath", &kString}};
constexpr Shape kVolumeOptions = {.types = kMap, .properties = kVolumeOptionKeys, .extensions = true};
constexpr Property kTmpfsKeys[] = {{"mode", &kNumberText}, {"size", &kWholeText}};
constexpr Shape kTmpfsOptions = {.types = kMap, .properties = kTmpfsKeys, .extensions = true};
constexpr Property kImageOptionKeys[] = {{"subpath", &kString}};
constexpr Shape kImageOptions = {.types = kMap, .properties = kImageOptionKeys, .extensions = true};
constexpr Shape kMountType = {.types = kText, .words = "bind volume tmpfs cluster npipe image"};
constexpr Property kMountKeys[] = {{"bind", &kBind},          {"consistency", &kString}, {"image", &kImageOptions},
                                   {"read_only", &kFlagText}, {"source", &kString},      {"target", &kString},
                                   {"tmpfs", &kTmpfsOptions}, {"type", &kMountType},     {"volume", &kVolumeOptions}};
constexpr Shape kMount = {
    .types = kText | kMap, .properties = kMountKeys, .extensions = true, .needed = true, .required = "type"};
constexpr Shape kMounts = {.types = kList, .items = &kMount};
constexpr Shape kCgroup = {.types = kText, .words = "host private"};

constexpr Property kServiceKeys[] = {
    {"annotations", &kPairs},
    {"attach", &kFlagText},
    {"blkio_config", &kBlkio},
    {"build", &kBuild},
    {"cap_add", &kUniqueStrings},
    {"cap_drop", &kUniqueStrings},
    {"cgroup", &kCgroup},
    {"cgroup_parent", &kString},
    {"command", &kCommand},
    {"configs", &kFileRefs},
    {"container_name", &kString},
    {"cpu_count", &kWholeText},
    {"cpu_percent", &kWholeText},
    {"cpu_period", &kNumberText},
    {"cpu_quota", &kNumberText},
    {"cpu_rt_period", &kNumberText},
    {"cpu_rt_runtime", &kNumberText},
    {"cpu_shares", &kNumberText},
    {"cpus", &kNumberText},
    {"cpuset", &kString},
    {"credential_spec", &kCredential},
    {"depends_on", &kDependsOn},
    {"deploy", &kDeploy},
    {"develop", &kAnything},
    {"device_cgroup_rules", &kUniqueStrings},
    {"devices", &kDevices},
    {"dns", &kStringOrList},
    {"dns_opt", &kUniqueStrings},
    {"dns_search", &kStringOrList},
    {"domainname", &kString},
    {"entrypoint", &kCommand},
    {"env_file", &kEnvFiles},
    {"environment", &kPairs},
    {"expose", &kNumbersOrStrings},
    {"extends", &kExtends},
    {"external_links", &kUniqueStrings},
    {"extra_hosts", &kHosts},
    {"gpus", &kGpus},
    {"group_add", &kNumbersOrStrings},
    {"healthcheck", &kHealth},
    {"hostname", &kString},
    {"image", &kString},
    {"init", &kFlagText},
    {"ipc", &kString},
    {"isolation", &kString},
    {"label_file", &kStringOrList},
    {"labels", &kPairs},
    {"links", &kUniqueStrings},
    {"logging", &kLogging},
    {"mac_address", &kString},
    {"mem_limit", &kNumberText},
    {"mem_reservation", &kWholeText},
    {"mem_swappiness", &kWholeText},
    {"memswap_limit", &kNumberText},
    {"models", &kModelRefs},
    {"network_mode", &kString},
    {"networks", &kServiceNetworks},
    {"oom_kill_disable", &kFlagText},
    {"oom_score_adj", &kWholeText},
    {"pid", &kString},
    {"pids_limit", &kNumberText},
    {"platform", &kString},
    {"ports", &kPorts},
    {"post_start", &kHooks},
    {"pre_start", &kHooks},
    {"pre_stop", &kHooks},
    {"privileged", &kFlagText},
    {"profiles", &kUniqueStrings},
    {"provider", &kProvider},
    {"pull_policy", &kString},
    {"pull_refresh_after", &kString},
    {"read_only", &kFlagText},
    {"restart", &kString},
    {"runtime", &kString},
    {"scale", &kWholeText},
    {"secrets", &kFileRefs},
    {"security_opt", &kUniqueStrings},
    {"shm_size", &kNumberText},
    {"stdin_open", &kFlagText},
    {"stop_grace_period", &kString},
    {"stop_signal", &kString},
    {"storage_opt", &kScalars},
    {"sysctls", &kPairs},
    {"tmpfs", &kStringOrList},
    {"tty", &kFlagText},
    {"ulimits", &kUlimits},
    {"use_api_socket", &kFlag},
    {"user", &kString},
    {"userns_mode", &kString},
    {"uts", &kString},
    {"volumes", &kMounts},
    {"volumes_from", &kUniqueStrings},
    {"working_dir", &kString},
};
constexpr Shape kService = {.types = kMap, .properties = kServiceKeys, .extensions = true, .needed = true};
constexpr Shape kServices = {.types = kMap, .others = &kService, .extensions = false, .names = true};

constexpr Property kExternalKeys[] = {{"name", &kString}};
constexpr Shape kExternal = {.types = kBool | kText | kMap, .properties = kExternalKeys, .extensions = true};
constexpr Property kSubnetKeys[] = {
    {"aux_addresses", &kScalars}, {"gateway", &kString}, {"ip_range", &kString}, {"subnet", &kString}};
constexpr Shape kSubnet = {.types = kMap, .properties = kSubnetKeys, .extensions = true};
constexpr Shape kSubnets = {.types = kList, .items = &kSubnet};
constexpr Property kIpamKeys[] = {{"config", &kSubnets}, {"driver", &kString}, {"options", &kScalars}};
constexpr Shape kIpam = {.types = kMap, .properties = kIpamKeys, .extensions = true};
constexpr Property kNetworkKeys[] = {
    {"attachable", &kFlagText},  {"driver", &kString},     {"driver_opts", &kScalars}, {"enable_ipv4", &kFlagText},
    {"enable_ipv6", &kFlagText}, {"external", &kExternal}, {"internal", &kFlagText},   {"ipam", &kIpam},
    {"labels", &kPairs},         {"name", &kString}};
constexpr Shape kNetwork = {.types = kMap, .properties = kNetworkKeys, .extensions = true};
constexpr Shape kNetworks = {.types = kMap, .others = &kNetwork, .names = true};
constexpr Property kVolumeKeys[] = {{"driver", &kString},
                                    {"driver_opts", &kScalars},
                                    {"external", &kExternal},
                                    {"labels", &kPairs},
                                    {"name", &kString}};
constexpr Shape kVolume = {.types = kMap, .properties = kVolumeKeys, .extensions = true};
constexpr Shape kVolumes = {.types = kMap, .others = &kVolume, .names = true};
constexpr Property kSecretKeys[] = {{"driver", &kString},     {"driver_opts", &kScalars},   {"environment", &kString},
                                    {"external", &kExternal}, {"file", &kString},           {"labels", &kPairs},
                                    {"name", &kString},       {"template_driver", &kString}};
constexpr Shape kSecret = {.types = kMap, .properties = kSecretKeys, .extensions = true, .needed = true};
constexpr Shape kSecrets = {.types = kMap, .others = &kSecret, .names = true};
constexpr Property kConfigKeys[] = {{"content", &kString},        {"environment", &kString}, {"external", &kExternal},
                                    {"file", &kString},           {"labels", &kPairs},       {"name", &kString},
                                    {"template_driver", &kString}};
constexpr Shape kConfig = {.types = kMap, .properties = kConfigKeys, .extensions = true, .needed = true};
constexpr Shape kConfigs = {.types = kMap, .others = &kConfig, .names = true};
constexpr Property kModelKeys[] = {
    {"context_size", &kWhole}, {"model", &kString}, {"name", &kString}, {"runtime_flags", &kStrings}};
constexpr Shape kModel = {.types = kMap, .properties = kModelKeys, .extensions = true, .required = "model"};
constexpr Shape kModels = {.types = kMap, .others = &kModel, .names = true};

constexpr Property kIncludeKeys[] = {
    {"env_file", &kStringOrList}, {"path", &kStringOrList}, {"project_directory", &kString}};
constexpr Shape kInclude = {.types = kText | kMap, .properties = kIncludeKeys, .needed = true, .required = "path"};
constexpr Shape kIncludes = {.types = kList, .items = &kInclude};

constexpr Property kDocumentKeys[] = {{"configs", &kConfigs},   {"include", &kIncludes},   {"models", &kModels},
                                      {"name", &kString},       {"networks", &kNetworks},  {"secrets", &kSecrets},
                                      {"services", &kServices}, {"version", &kNumberText}, {"volumes", &kVolumes}};
constexpr Shape kDocument = {.types = kMap, .properties = kDocumentKeys, .extensions = true, .needed = true};

}  // namespace

Result<void> check_schema(const Node& document) { return check_shape(document, kDocument); }

}  // namespace hull::compose
