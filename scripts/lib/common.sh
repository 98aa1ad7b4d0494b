# What scripts/setup, scripts/demo and scripts/test share. Source it after `set -euo pipefail`.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
export LC_ALL=C.UTF-8 CCACHE_COMPILERCHECK=content

say() { printf '%s\n' "$*"; }
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Everything privileged goes through this: nothing for root, sudo for others.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo --preserve-env=HULL_ROOT,HULL_RUN,HULL_CONFIG,DEBIAN_FRONTEND "$@"
  else
    die "this needs root: run it as root, or install sudo"
  fi
}

# The packages that the build, and beyond it the tests, need: one name a line, comments after '#'.
packages_of() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$@" | tr -d ' \t'; }

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p' | sort -u)
  packages_of "$@" | sort -u | comm -23 - <(printf '%s\n' "$installed")
}

# Installs what the lists name and is not installed yet; asks the network only when something is missing.
install_packages() {
  local missing log
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  say "installing from Debian: $(printf '%s ' $missing)"
  log=$(mktemp)
  # Services that a package would start (dockerd, containerd) are not wanted on the user's machine: the tests start
  # their own, in private folders. policy-rc.d is Debian's way to say so; one that is there already is respected.
  local policy=/usr/sbin/policy-rc.d made_policy=
  if [ ! -e $policy ]; then
    made_policy=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  local failed=
  { as_root apt-get install -y -q --no-install-recommends $missing </dev/null ||
    { as_root apt-get update -q </dev/null && as_root apt-get install -y -q --no-install-recommends $missing </dev/null; }; } \
    >"$log" 2>&1 || failed=1
  [ -z "$made_policy" ] || as_root rm -f $policy
  if [ -n "$failed" ]; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    die "installing the packages failed (above: apt-get's last lines); check the network and apt's sources, then run this again"
  fi
  rm -f "$log"
}

# configure PRESET [cmake arguments]: quiet when nothing changes.
configure() {
  local preset=$1 log
  shift
  log=$(mktemp)
  if ! cmake --preset "$preset" "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "cmake --preset $preset failed"
  fi
  rm -f "$log"
}

# build PRESET [targets]: prints ninja's output only when the build fails.
build() {
  local preset=$1 log started
  shift
  started=$SECONDS
  log=$(mktemp)
  if ! ninja -C "build/$preset" "$@" >"$log" 2>&1; then
    grep -v '^\[[0-9/]*\] ' "$log" | tail -n 80 >&2
    rm -f "$log"
    die "the $preset build failed"
  fi
  rm -f "$log"
  say "built $preset in $((SECONDS - started)) s"
}
