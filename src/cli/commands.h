#pragma once
// The commands of this room, each defined beside the function that does it.

#include "cli/command.h"

namespace hull::cli {

// run_flags.cc, cmd_run.cc, cmd_exec.cc
extern const Command kRun, kCreate, kCompare, kStart, kAttach, kExec;
// cmd_change.cc, cmd_copy.cc
extern const Command kRename, kUpdate, kCommit, kDiff, kCopy, kExport;
// cmd_lifecycle.cc
extern const Command kStop, kRestart, kKill, kPause, kUnpause, kWait, kRemove, kContainerPrune;
// cmd_events.cc, cmd_list.cc, cmd_logs.cc, cmd_inspect.cc, cmd_stats.cc
extern const Command kEvents, kPs, kPort, kTop, kLogs, kInspect, kContainerInspect, kStats;
// cmd_images.cc
extern const Command kImages, kImageInspect, kHistory, kRemoveImage, kTag, kImagePrune;
// cmd_volume.cc, cmd_network.cc
extern const Command kVolumeCreate, kVolumeInspect, kVolumeList, kVolumePrune, kVolumeRemove;
extern const Command kNetworkConnect, kNetworkCreate, kNetworkDisconnect, kNetworkInspect, kNetworkList, kNetworkPrune,
    kNetworkRemove;
// cmd_vm.cc
extern const Command kVmKernelInstall, kVmKernelList, kVmKernelRemove, kVmKernelUse;
// cmd_context.cc
extern const Command kContextCreate, kContextInspect, kContextList, kContextRemove, kContextShow, kContextUse;
// cmd_dashboard.cc, cmd_system.cc, cmd_internal.cc
extern const Command kDashboard;
// cmd_services.cc
extern const Command kSystemStartAll, kSystemStopAll;
// cmd_generate.cc
extern const Command kGenerateSystemd, kGenerateQuadlet;

extern const Command kVersion, kInfo, kDoctor, kSystemCheck, kSystemDf, kSystemPrune;
extern const Command kHelp, kInternalCleanup, kInternalRestart, kInternalHealth, kInternalComplete, kInternalCompletion,
    kInternalExecKeeper, kInternalMan;

}  // namespace hull::cli
