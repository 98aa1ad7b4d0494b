#pragma once

#include "sys/event_loop.h"

namespace hull::net::dns {
using sys::Loop;
using sys::now_ms;
}  // namespace hull::net::dns
