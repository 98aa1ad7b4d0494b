#include "cli/image_transfer_flags.h"

namespace hull::cli {
namespace {

constexpr Flag kPlatform = {.name = "platform",
                            .kind = ValueKind::kText,
                            .metavar = "OS/ARCH[/VARIANT]",
                            .help = "Choose this platform from a multi-platform image"};
constexpr Flag kQuiet = {.name = "quiet", .short_name = 'q', .help = "Print only the result, no progress"};
// Docker's switch for Notary signatures: accepted as Docker accepts it, so that scripts go on working.
constexpr Flag kNoTrust = {
    .name = "disable-content-trust", .help = "Skip image signature verification (the default)", .hidden = true};

// For hulld.
constexpr Flag kJson = {.name = "json-progress", .help = "Docker's messages, one a line", .hidden = true};
constexpr Flag kAuthFile = {.name = "auth-file",
                            .kind = ValueKind::kText,
                            .metavar = "FILE",
                            .help = "Docker's AuthConfig document; nothing else is used to log in",
                            .hidden = true};

constexpr Flag kPullFlags[] = {
    {.name = "all-tags", .short_name = 'a', .help = "Pull every tag of the repository"},
    kPlatform,
    kQuiet,
    kNoTrust,
    kJson,
    kAuthFile,
};
constexpr std::span<const Flag> kPullTables[] = {kPullFlags};

constexpr Flag kPushFlags[] = {
    {.name = "all-tags", .short_name = 'a', .help = "Push every tag of the repository"},
    kPlatform,
    kQuiet,
    kNoTrust,
    kJson,
    kAuthFile,
};
constexpr std::span<const Flag> kPushTables[] = {kPushFlags};

constexpr Flag kLoginFlags[] = {
    {.name = "password",
     .short_name = 'p',
     .kind = ValueKind::kText,
     .metavar = "PASSWORD",
     .help = "The password or token; others can see it in the process list, prefer --password-stdin"},
    {.name = "password-stdin", .help = "Read the password from standard input"},
    {.name = "username", .short_name = 'u', .kind = ValueKind::kText, .metavar = "NAME", .help = "The user name"},
};
constexpr std::span<const Flag> kLoginTables[] = {kLoginFlags};

constexpr Flag kLoadFlags[] = {
    {.name = "input",
     .short_name = 'i',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Read from this archive instead of standard input",
     .complete = Complete::kFile},
    kPlatform,
    kQuiet,
    kJson,
};
constexpr std::span<const Flag> kLoadTables[] = {kLoadFlags};

constexpr Flag kSaveFlags[] = {
    {.name = "format",
     .kind = ValueKind::kText,
     .metavar = "FORMAT",
     .help = "Archive format",
     .complete = Complete::kWords,
     .words = "docker-archive oci-archive",
     .fallback = "docker-archive"},
    {.name = "output",
     .short_name = 'o',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Write to this file instead of standard output",
     .complete = Complete::kFile},
    kPlatform,
    kJson,
};
constexpr std::span<const Flag> kSaveTables[] = {kSaveFlags};

constexpr Flag kSearchFlags[] = {
    {.name = "format",
     .kind = ValueKind::kText,
     .metavar = "FORMAT",
     .help = "table, json, or a template such as '{{.Name}}'"},
    {.name = "limit",
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "Most results, at most 100",
     .fallback = "25"},
    {.name = "no-trunc", .help = "Do not shorten what is long"},
    kJson,
    kAuthFile,
};
constexpr std::span<const Flag> kSearchTables[] = {kSearchFlags};

constexpr Flag kImportFlags[] = {
    kChangeFlag,
    kMessageFlag,
    kPlatform,
    kJson,
};
constexpr std::span<const Flag> kImportTables[] = {kImportFlags};

}  // namespace

constinit const Command kSearch = {
    .path = "search",
    .arguments = "[HOST/]TERM",
    .summary = "Search a registry's catalogue for repositories",
    .description =
        "Lists the repositories whose name holds TERM. Works with registries that tell their catalogue; many "
        "public ones do not.",
    .examples = "hull search registry.example.org/team\n",
    .flags = kSearchTables,
    .least = 1,
    .most = 1,
    .section = Section::kImages};

constinit const Command kPull = {
    .path = "pull",
    .aliases = "image pull",
    .arguments = "NAME[:TAG|@DIGEST]",
    .summary = "Download an image from a registry",
    .description =
        "Fetches what the store does not have yet: layers in parallel, each verified, decompressed and written as one "
        "EROFS file in a single pass. An interrupted pull goes on where it stopped. Without a registry in the name, "
        "hull.toml's default registry is asked (docker.io).",
    .examples =
        "hull pull busybox\n"
        "hull pull --platform linux/arm64 registry.example.org/team/app:1.2\n"
        "hull pull debian@sha256:1a2b...  # exactly this content\n",
    .flags = kPullTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kImage,
    .section = Section::kImages};

constinit const Command kPush = {
    .path = "push",
    .aliases = "image push",
    .arguments = "NAME[:TAG]",
    .summary = "Upload an image to a registry",
    .description =
        "Uploads the layers that the registry does not have, then the manifest. Log in first with "
        "'hull login' where the registry asks for it.",
    .examples = "hull tag app:1.2 registry.example.org/team/app:1.2\nhull push registry.example.org/team/app:1.2\n",
    .flags = kPushTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kImage,
    .section = Section::kImages};

constinit const Command kLogin = {
    .path = "login",
    .arguments = "[REGISTRY]",
    .summary = "Log in to a registry",
    .description =
        "Checks the name and password with the registry and keeps them in ~/.docker/config.json, or with "
        "the credential helper that this file names.",
    .examples =
        "hull login registry.example.org\n"
        "pass show registry | hull login -u ci --password-stdin registry.example.org\n",
    .flags = kLoginTables,
    .most = 1,
    .section = Section::kImages};

constinit const Command kLogout = {.path = "logout",
                                   .arguments = "[REGISTRY]",
                                   .summary = "Log out from a registry",
                                   .description = "Forgets the name and password of a registry.",
                                   .most = 1,
                                   .section = Section::kImages};

constinit const Command kLoad = {
    .path = "load",
    .aliases = "image load",
    .summary = "Load images from an archive",
    .description = "Reads a docker-archive or an oci-archive, plain or compressed, from a file or standard input.",
    .examples = "hull load -i app.tar\nssh host docker save app | hull load\n",
    .flags = kLoadTables,
    .section = Section::kImages};

constinit const Command kSave = {
    .path = "save",
    .aliases = "image save",
    .arguments = "IMAGE [IMAGE...]",
    .summary = "Write images to an archive",
    .examples = "hull save -o app.tar app:1.2\nhull save --format oci-archive app:1.2 | ssh host hull load\n",
    .flags = kSaveTables,
    .least = 1,
    .most = -1,
    .complete = Complete::kImage,
    .section = Section::kImages};

constinit const Command kImport = {.path = "import",
                                   .aliases = "image import",
                                   .arguments = "FILE|URL|- [REPOSITORY[:TAG]]",
                                   .summary = "Make an image of one layer from a tar archive",
                                   .examples = "tar -C rootfs -c . | hull import - base:1\n",
                                   .flags = kImportTables,
                                   .least = 1,
                                   .most = 2,
                                   .complete = Complete::kFile,
                                   .section = Section::kImages};

}  // namespace hull::cli
