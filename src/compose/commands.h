#pragma once
// The functions of the commands; their flags stand in cli/compose_flags.cc.

#include "compose/app.h"

namespace hull::compose {

// cmd_config.cc
Result<int> run_config(App& app, const cli::Parsed& flags);
Result<int> run_version(App& app, const cli::Parsed& flags);
// cmd_up.cc
Result<int> run_up(App& app, const cli::Parsed& flags);
Result<int> run_create(App& app, const cli::Parsed& flags);
Result<int> run_scale(App& app, const cli::Parsed& flags);
// cmd_down.cc
Result<int> run_down(App& app, const cli::Parsed& flags);
Result<int> run_remove(App& app, const cli::Parsed& flags);
// cmd_lifecycle.cc
Result<int> run_start(App& app, const cli::Parsed& flags);
Result<int> run_stop(App& app, const cli::Parsed& flags);
Result<int> run_restart(App& app, const cli::Parsed& flags);
Result<int> run_kill(App& app, const cli::Parsed& flags);
Result<int> run_pause(App& app, const cli::Parsed& flags);
Result<int> run_unpause(App& app, const cli::Parsed& flags);
Result<int> run_wait(App& app, const cli::Parsed& flags);
// cmd_list.cc
Result<int> run_ps(App& app, const cli::Parsed& flags);
Result<int> run_list(App& app, const cli::Parsed& flags);
Result<int> run_images(App& app, const cli::Parsed& flags);
Result<int> run_port(App& app, const cli::Parsed& flags);
Result<int> run_top(App& app, const cli::Parsed& flags);
// cmd_logs.cc
Result<int> run_logs(App& app, const cli::Parsed& flags);
Result<int> run_events(App& app, const cli::Parsed& flags);
// cmd_run.cc
Result<int> run_exec(App& app, const cli::Parsed& flags);
Result<int> run_run(App& app, const cli::Parsed& flags);
Result<int> run_cp(App& app, const cli::Parsed& flags);
Result<int> run_stats(App& app, const cli::Parsed& flags);
// cmd_pull.cc
Result<int> run_pull(App& app, const cli::Parsed& flags);
// kube_play.cc, kube_generate.cc
Result<int> run_play(App& app, const cli::Parsed& flags);
Result<int> run_kube_down(App& app, const cli::Parsed& flags);
Result<int> run_generate(App& app, const cli::Parsed& flags);

}  // namespace hull::compose
