#include "compose/commands.h"
#include "compose/converge.h"

namespace hull::compose {

Result<int> run_pull(App& app, const cli::Parsed& flags) {
  const std::string policy(flags.value("policy", "always"));
  if (policy != "always" && policy != "missing") {
    return errorf(ErrorKind::kInvalid, "--policy: expected always or missing");
  }
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  TRY_ASSIGN(const auto services, select_services(model, flags.arguments, flags.on("include-deps")));
  auto pulled = pull_images(app, model, services, {policy, flags.on("quiet"), flags.on("ignore-pull-failures")});
  if (!pulled.ok() && flags.on("ignore-pull-failures")) {
    app.context().warn(pulled.error().message());
    return 0;
  }
  TRY(std::move(pulled));
  return 0;
}

}  // namespace hull::compose
