#pragma once
// Units of systemd by way of its bus (org.freedesktop.systemd1(5)).

#include <string>
#include <vector>

#include "base/error.h"
#include "isolation/systemd/unit_properties.h"

namespace hull::isolation::systemd {

/// StartTransientUnit with the properties and those that a container needs (Delegate, accounting, no default
/// dependencies), then waits for the job to end. Returns the unit's control group. The system's manager for root, the
/// user's otherwise.
Result<std::string> start_unit(const std::string& unit, const std::vector<Property>& properties);
/// A scope that several processes share: starts it as start_unit does, with the processes of the property PIDs; where
/// it is there already they are put into its group "commands" (AttachProcessesToUnit).
Result<void> attach_unit(const std::string& unit, const std::vector<Property>& properties);
/// StopUnit and wait; a unit that is not loaded is success. Forgets its failure, so that the name is free again.
Result<void> stop_unit(const std::string& unit);
/// SetUnitProperties at run time.
Result<void> set_unit(const std::string& unit, const std::vector<Property>& properties);

}  // namespace hull::isolation::systemd
