#include "cli/compose_flags.h"

namespace hull::cli {
namespace {

constexpr std::string_view kProgram = "hull-compose";

constexpr Flag text(std::string_view name, char letter, std::string_view metavar, std::string_view help,
                    bool repeatable = false) {
  return {.name = name,
          .short_name = letter,
          .kind = ValueKind::kText,
          .metavar = metavar,
          .help = help,
          .repeatable = repeatable};
}
constexpr Flag word(std::string_view name, std::string_view help, std::string_view words, std::string_view fallback) {
  return {.name = name,
          .kind = ValueKind::kText,
          .metavar = "WORD",
          .help = help,
          .complete = Complete::kWords,
          .words = words,
          .fallback = fallback};
}
constexpr Flag on(std::string_view name, char letter, std::string_view help) {
  return {.name = name, .short_name = letter, .help = help};
}

constexpr Flag kGroupFlags[] = {
    word("ansi", "When to use colours", "never always auto", "auto"),
    {.name = "env-file",
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Take variables from this file instead of .env",
     .repeatable = true,
     .complete = Complete::kFile},
    {.name = "file",
     .short_name = 'f',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Read this Compose file, or standard input (-); a later file changes an earlier one",
     .repeatable = true,
     .complete = Complete::kFile,
     .fallback = "compose.yaml here or in a folder above"},
    {.name = "parallel",
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "How many containers are worked on at the same time",
     .fallback = "8"},
    text("profile", 0, "NAME", "Activate a profile", true),
    word("progress", "What is told while it works", "auto plain quiet", "auto"),
    {.name = "project-directory",
     .kind = ValueKind::kText,
     .metavar = "FOLDER",
     .help = "Take relative paths from this folder",
     .complete = Complete::kFolder,
     .fallback = "the first file's"},
    text("project-name", 'p', "NAME", "Name of the project"),
};
constexpr std::span<const Flag> kGroupTables[] = {kGroupFlags};

constexpr Flag kTimeout = {.name = "timeout",
                           .short_name = 't',
                           .kind = ValueKind::kInt,
                           .metavar = "SECONDS",
                           .help = "How long a container may take to stop before it is killed"};
constexpr Flag kRemoveOrphans =
    on("remove-orphans", 0, "Remove containers of the project whose services the file no longer has");
constexpr Flag kNoDeps = on("no-deps", 0, "Leave the services alone that these depend on");
constexpr Flag kIndex = {.name = "index",
                         .kind = ValueKind::kInt,
                         .metavar = "NUMBER",
                         .help = "Which container of the service, when it has several",
                         .fallback = "1"};
constexpr Flag kPullPolicy = word("pull", "Pull images before", "always missing never", "");
constexpr Flag kQuietPull = on("quiet-pull", 0, "Show no progress of pulls");
constexpr Flag kNoColour = on("no-color", 0, "Print names without colours");
constexpr Flag kNoPrefix = on("no-log-prefix", 0, "Print lines without names before them");
constexpr Flag kScale = text("scale", 0, "SERVICE=NUMBER", "How many containers of a service to run", true);

constexpr Flag kUpFlags[] = {
    on("abort-on-container-exit", 0, "Stop everything when one container ends"),
    on("abort-on-container-failure", 0, "Stop everything when one container fails"),
    on("always-recreate-deps", 0, "Make containers of dependencies anew"),
    text("attach", 0, "SERVICE", "Show the output of this service only", true),
    on("detach", 'd', "Leave the containers running and return"),
    text("exit-code-from", 0, "SERVICE",
         "Return the exit code of this service's container; stops everything when one container ends"),
    on("force-recreate", 0, "Make containers anew even when nothing has changed"),
    text("no-attach", 0, "SERVICE", "Don't show the output of this service", true),
    kNoColour,
    kNoDeps,
    kNoPrefix,
    on("no-recreate", 0, "Keep containers that are there, whatever has changed"),
    on("no-start", 0, "Make the containers, start none"),
    kPullPolicy,
    kQuietPull,
    kRemoveOrphans,
    on("renew-anon-volumes", 'V', "Give containers that are made anew new anonymous volumes"),
    kScale,
    kTimeout,
    on("timestamps", 0, "Print the time before each line"),
    on("wait", 0, "Wait until the services are running, and healthy where they have health checks"),
    {.name = "wait-timeout", .kind = ValueKind::kInt, .metavar = "SECONDS", .help = "The longest to wait with --wait"},
};
constexpr std::span<const Flag> kUpTables[] = {kUpFlags};

constexpr Flag kCreateFlags[] = {
    on("force-recreate", 0, "Make containers anew even when nothing has changed"),
    on("no-recreate", 0, "Keep containers that are there, whatever has changed"),
    kPullPolicy,
    kQuietPull,
    kRemoveOrphans,
    kScale,
};
constexpr std::span<const Flag> kCreateTables[] = {kCreateFlags};

constexpr Flag kDownFlags[] = {
    kRemoveOrphans,
    word("rmi", "Remove the images of the services too: all, or those without a name of their own (local)", "all local",
         ""),
    kTimeout,
    on("volumes", 'v', "Remove the volumes that the file names, and anonymous ones"),
};
constexpr std::span<const Flag> kDownTables[] = {kDownFlags};

constexpr Flag kPsFlags[] = {
    on("all", 'a', "Show containers that have ended too, and those of 'run'"),
    text("filter", 0, "status=STATE", "Show those in this state", true),
    text("format", 0, "FORMAT", "table, json, or a template"),
    on("no-trunc", 0, "Show everything in full"),
    on("quiet", 'q', "Print ids only"),
    on("services", 0, "Print the names of services only"),
    text("status", 0, "STATE", "Show those in this state (running, exited, paused, created)", true),
};
constexpr std::span<const Flag> kPsTables[] = {kPsFlags};

constexpr Flag kListFlags[] = {
    on("all", 'a', "Show projects whose containers have all ended too"),
    text("filter", 0, "name=NAME", "Show those with this in their name", true),
    text("format", 0, "FORMAT", "table, json, or a template"),
    on("quiet", 'q', "Print names only"),
};
constexpr std::span<const Flag> kListTables[] = {kListFlags};

constexpr Flag kLogsFlags[] = {
    on("follow", 'f', "Go on with what comes"),
    {.name = "index", .kind = ValueKind::kInt, .metavar = "NUMBER", .help = "Which container of the service"},
    kNoColour,
    kNoPrefix,
    text("since", 0, "TIME", "Begin at this time, or this long ago (10m)"),
    {.name = "tail",
     .short_name = 'n',
     .kind = ValueKind::kText,
     .metavar = "NUMBER",
     .help = "Show so many of the last lines of each container",
     .fallback = "all"},
    on("timestamps", 't', "Print the time before each line"),
    text("until", 0, "TIME", "End at this time"),
};
constexpr std::span<const Flag> kLogsTables[] = {kLogsFlags};

constexpr Flag kExecFlags[] = {
    on("detach", 'd', "Return at once"),
    text("env", 'e', "NAME=VALUE", "Set a variable", true),
    kIndex,
    on("interactive", 'i', "Keep standard input open (the default)"),
    on("no-tty", 'T', "Give the command no terminal"),
    on("privileged", 0, "Give the command every right"),
    text("user", 'u', "USER", "Run as this user"),
    text("workdir", 'w', "FOLDER", "Run in this folder"),
};
constexpr std::span<const Flag> kExecTables[] = {kExecFlags};

constexpr Flag kRunFlags[] = {
    text("cap-add", 0, "CAPABILITY", "Add a capability", true),
    text("cap-drop", 0, "CAPABILITY", "Take a capability away", true),
    on("detach", 'd', "Leave the container running and print its name"),
    text("entrypoint", 0, "COMMAND", "Replace the entry point"),
    text("env", 'e', "NAME=VALUE", "Set a variable", true),
    on("interactive", 'i', "Keep standard input open (the default)"),
    text("label", 'l', "NAME=VALUE", "Add a label", true),
    text("name", 0, "NAME", "Name of the container"),
    on("no-TTY", 'T', "Give the container no terminal"),
    kNoDeps,
    text("publish", 'p', "PORTS", "Publish a port", true),
    kPullPolicy,
    kQuietPull,
    on("rm", 0, "Remove the container when it has ended"),
    on("service-ports", 'P', "Publish the service's ports"),
    on("use-aliases", 0, "Let others find the container by the service's names"),
    text("user", 'u', "USER", "Run as this user"),
    text("volume", 'v', "MOUNT", "Add a volume", true),
    text("workdir", 'w', "FOLDER", "Run in this folder"),
};
constexpr std::span<const Flag> kRunTables[] = {kRunFlags};

constexpr Flag kPullFlags[] = {
    on("ignore-pull-failures", 0, "Go on with the other images when one can't be had"),
    on("include-deps", 0, "Pull the images of dependencies too"),
    word("policy", "When to pull", "missing always", "always"),
    on("quiet", 'q', "Show no progress"),
};
constexpr std::span<const Flag> kPullTables[] = {kPullFlags};

constexpr Flag kConfigFlags[] = {
    on("environment", 0, "Print the variables that are used"),
    word("format", "Form of what is printed", "yaml json", "yaml"),
    text("hash", 0, "SERVICE", "Print the hash of a service's configuration (* for all)"),
    on("images", 0, "Print the names of images"),
    on("networks", 0, "Print the names of networks"),
    on("no-interpolate", 0, "Leave variables as they are"),
    {.name = "output",
     .short_name = 'o',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Write to this file",
     .complete = Complete::kFile},
    on("profiles", 0, "Print the names of profiles"),
    on("quiet", 'q', "Check only"),
    on("services", 0, "Print the names of services"),
    on("volumes", 0, "Print the names of volumes"),
};
constexpr std::span<const Flag> kConfigTables[] = {kConfigFlags};

constexpr Flag kStopFlags[] = {kTimeout};
constexpr std::span<const Flag> kStopTables[] = {kStopFlags};
constexpr Flag kRestartFlags[] = {kNoDeps, kTimeout};
constexpr std::span<const Flag> kRestartTables[] = {kRestartFlags};
constexpr Flag kKillFlags[] = {kRemoveOrphans,
                               {.name = "signal",
                                .short_name = 's',
                                .kind = ValueKind::kText,
                                .metavar = "SIGNAL",
                                .help = "The signal to send",
                                .complete = Complete::kSignal,
                                .fallback = "SIGKILL"}};
constexpr std::span<const Flag> kKillTables[] = {kKillFlags};
constexpr Flag kRemoveFlags[] = {on("force", 'f', "Don't ask"), on("stop", 's', "Stop the containers first"),
                                 on("volumes", 'v', "Remove their anonymous volumes too")};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};
constexpr Flag kImagesFlags[] = {text("format", 0, "FORMAT", "table, json, or a template"),
                                 on("quiet", 'q', "Print ids only")};
constexpr std::span<const Flag> kImagesTables[] = {kImagesFlags};
constexpr Flag kPortFlags[] = {kIndex, word("protocol", "Protocol of the port", "tcp udp", "tcp")};
constexpr std::span<const Flag> kPortTables[] = {kPortFlags};
constexpr Flag kEventsFlags[] = {on("json", 0, "Print each event as a JSON object"),
                                 text("since", 0, "TIME", "Begin at this time, or this long ago"),
                                 text("until", 0, "TIME", "End at this time")};
constexpr std::span<const Flag> kEventsTables[] = {kEventsFlags};
constexpr Flag kScaleFlags[] = {kNoDeps};
constexpr std::span<const Flag> kScaleTables[] = {kScaleFlags};
constexpr Flag kVersionFlags[] = {word("format", "Form of what is printed", "pretty json", "pretty"),
                                  on("short", 0, "Print the version only")};
constexpr std::span<const Flag> kVersionTables[] = {kVersionFlags};
constexpr Flag kWaitFlags[] = {on("down-project", 0, "Take the project down when the first one has ended")};
constexpr std::span<const Flag> kWaitTables[] = {kWaitFlags};
constexpr Flag kCpFlags[] = {on("archive", 'a', "Keep owners"), on("follow-link", 'L', "Follow links in the source"),
                             kIndex};
constexpr std::span<const Flag> kCpTables[] = {kCpFlags};
constexpr Flag kStatsFlags[] = {on("all", 'a', "Show those that don't run too"),
                                text("format", 0, "FORMAT", "table, json, or a template"),
                                on("no-stream", 0, "Print once"), on("no-trunc", 0, "Show everything in full")};
constexpr std::span<const Flag> kStatsTables[] = {kStatsFlags};

constexpr Flag kPlayFlags[] = {
    {.name = "configmap",
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Read ConfigMaps from this file too",
     .repeatable = true,
     .complete = Complete::kFile},
    text("network", 0, "NETWORK", "Put the pods on this network", true),
    kQuietPull,
    on("replace", 0, "Remove pods of the same name first"),
    {.name = "start", .help = "Start the pods once they are made", .fallback = "true"},
};
constexpr std::span<const Flag> kPlayTables[] = {kPlayFlags};
constexpr Flag kKubeDownFlags[] = {on("force", 0, "Remove the volumes of PersistentVolumeClaims too")};
constexpr std::span<const Flag> kKubeDownTables[] = {kKubeDownFlags};
constexpr Flag kGenerateFlags[] = {
    {.name = "filename",
     .short_name = 'f',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Write to this file",
     .complete = Complete::kFile},
    on("service", 's', "Write a Service for the published ports too"),
};
constexpr std::span<const Flag> kGenerateTables[] = {kGenerateFlags};

/// Commands differ in little.
constexpr Command compose(std::string_view path, std::string_view arguments, std::string_view summary, FlagTables flags,
                          int least = 0, int most = -1) {
  return {.path = path,
          .arguments = arguments,
          .summary = summary,
          .flags = flags,
          .least = least,
          .most = most,
          .section = Section::kCompose,
          .program = kProgram};
}
constexpr Command through(Command command) {
  command.stop_at_first_argument = true;
  return command;
}
constexpr Command told(Command command, std::string_view description, std::string_view examples = {}) {
  command.description = description;
  command.examples = examples;
  return command;
}
constexpr Command known_as(Command command, std::string_view aliases) {
  command.aliases = aliases;
  return command;
}

}  // namespace

constinit const FlagTables kComposeGroupFlags = kGroupTables;

constinit const Command kComposeConfig =
    known_as(told(compose("compose config", "[SERVICE...]", "Check a Compose file and print it whole", kConfigTables),
                  "Reads the files as 'hull compose up' would, with variables, merges, extends and includes, and "
                  "prints one document "
                  "in long form. What is wrong is told with file and line.",
                  "hull compose config -q   # only check\n"
                  "hull compose -f a.yaml -f b.yaml config --format json\n"),
             "compose convert");
constinit const Command kComposeCreate =
    compose("compose create", "[SERVICE...]", "Make the containers of services", kCreateTables);
constinit const Command kComposeCp = compose("compose cp", "SERVICE:PATH|PATH SERVICE:PATH|PATH",
                                             "Copy files into or out of a service's container", kCpTables, 2, 2);
constinit const Command kComposeDown = told(
    compose("compose down", "[SERVICE...]", "Stop and remove what 'up' has made", kDownTables),
    "Containers go in the reverse order of their dependencies, then networks. Volumes stay unless --volumes is given; "
    "what is external stays always. With --project-name no file is needed.");
constinit const Command kComposeEvents =
    compose("compose events", "[SERVICE...]", "Tell what happens to the containers of a project", kEventsTables);
constinit const Command kComposeExec = through(
    compose("compose exec", "SERVICE COMMAND [ARG...]", "Run a command in a service's container", kExecTables, 2));
constinit const Command kComposeImages =
    compose("compose images", "[SERVICE...]", "List the images of the containers", kImagesTables);
constinit const Command kComposeKill =
    compose("compose kill", "[SERVICE...]", "Send a signal to the containers of services", kKillTables);
constinit const Command kComposeList =
    known_as(compose("compose ls", "", "List projects", kListTables, 0, 0), "compose list");
constinit const Command kComposeLogs =
    compose("compose logs", "[SERVICE...]", "Show the output of services", kLogsTables);
constinit const Command kComposePause =
    compose("compose pause", "[SERVICE...]", "Pause the containers of services", {});
constinit const Command kComposePort =
    compose("compose port", "SERVICE PORT", "Print where a port of a service is published", kPortTables, 2, 2);
constinit const Command kComposePs =
    compose("compose ps", "[SERVICE...]", "List the containers of a project", kPsTables);
constinit const Command kComposePull =
    compose("compose pull", "[SERVICE...]", "Pull the images of services", kPullTables);
constinit const Command kComposeRemove =
    compose("compose rm", "[SERVICE...]", "Remove containers of services that have ended", kRemoveTables);
constinit const Command kComposeRestart =
    compose("compose restart", "[SERVICE...]", "Restart the containers of services", kRestartTables);
constinit const Command kComposeRun = through(
    told(compose("compose run", "SERVICE [COMMAND] [ARG...]", "Run a command in a new container of a service",
                 kRunTables, 1),
         "The services that it depends on are started first. The container publishes no ports and bears no names of "
         "the service unless asked to."));
constinit const Command kComposeScale =
    compose("compose scale", "SERVICE=NUMBER...", "Change how many containers of services run", kScaleTables, 1);
constinit const Command kComposeStart = compose("compose start", "[SERVICE...]", "Start containers that are there", {});
constinit const Command kComposeStats =
    compose("compose stats", "[SERVICE]", "Show what the containers use", kStatsTables, 0, 1);
constinit const Command kComposeStop =
    compose("compose stop", "[SERVICE...]", "Stop the containers of services", kStopTables);
constinit const Command kComposeTop = compose("compose top", "[SERVICE...]", "Show the processes of services", {});
constinit const Command kComposeUnpause = compose("compose unpause", "[SERVICE...]", "Let paused containers go on", {});
constinit const Command kComposeUp = told(
    compose("compose up", "[SERVICE...]", "Make and start what a Compose file describes", kUpTables),
    "Networks and volumes are made, then containers in the order of their dependencies, several at a time; a dependent "
    "one "
    "waits until what it depends on has started, is healthy, or has completed, as its condition says. A container "
    "whose "
    "configuration or image has changed is made anew, others are left alone. Without --detach the output of all is "
    "shown, "
    "and Ctrl-C stops them; a second one kills them.\n\n"
    "The file is one of compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml, here or in a folder above, "
    "with its compose.override.yaml; or what -f names. 'isolation: vm' or 'runtime: hull-vm' makes a service a virtual "
    "machine.\n\n"
    "Killed at any moment, the next 'up' or 'down' carries on.",
    "hull compose up -d --wait                  # until everything is healthy\n"
    "hull compose up -d --scale worker=3        # three containers of a service\n"
    "hull compose up --exit-code-from tests     # a test run\n");
constinit const Command kComposeVersion = compose("compose version", "", "Print the version", kVersionTables, 0, 0);
constinit const Command kComposeWait =
    compose("compose wait", "SERVICE...", "Wait until the containers of services have ended", kWaitTables, 1);

constinit const Command kKubePlay = known_as(
    told(
        compose("kube play", "FILE", "Make pods from Kubernetes YAML", kPlayTables, 1, 1),
        "Pod, Deployment, ConfigMap, Secret, PersistentVolumeClaim and Service are understood; FILE may be - for "
        "standard "
        "input. Each pod has a small container that holds its network; the others share it. Init containers run first, "
        "one after the other; probes become health checks; volumes may be configMap, secret, emptyDir, hostPath and "
        "persistentVolumeClaim. Unknown keys are errors with file and line; known ones that mean nothing on one "
        "machine "
        "are told.",
        "hull kube play app.yaml\nhull kube down app.yaml\n"),
    "play kube");
constinit const Command kKubeDown =
    told(compose("kube down", "FILE", "Remove the pods of Kubernetes YAML", kKubeDownTables, 1, 1),
         "Pods that the file names are stopped and removed. Volumes stay unless --force is given.");
constinit const Command kKubeGenerate =
    known_as(compose("kube generate", "WORKLOAD|POD...", "Print workloads as Kubernetes YAML", kGenerateTables, 1),
             "generate kube");

}  // namespace hull::cli
