#pragma once
// The child's {step, errno, index} as a sentence.

#include "base/error.h"
#include "oci/runtime_spec.h"
#include "runtime/child/plan.h"

namespace hull::runtime {

/// What the messages name. Pointers may be null where there is none (exec has no container plan).
struct MessageContext {
  const oci::Spec* spec = nullptr;
  const oci::Process* process = nullptr;
  const child::ContainerPlan* plan = nullptr;
};

Error explain(const child::Report& report, const MessageContext& context);

}  // namespace hull::runtime
