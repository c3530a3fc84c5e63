# Shared by ./warren, scripts/test, scripts/rocksdb and .ci/run: what the build needs and how it is built.
# Callers set $here to the checkout's root.

target=${CARGO_TARGET_DIR:-$here/target}
export CARGO_TARGET_DIR="$target"
full=$target/release        # with RocksDB
light=$target/light/release # without: what the demo needs

say() { printf 'warren: %s\n' "$*" >&2; }

# need PROBE PKG...: installs apt packages when the command or file PROBE is missing.
need() {
  probe=$1
  shift
  if command -v "$probe" >/dev/null 2>&1 || [ -e "$probe" ]; then return 0; fi
  say "installing $* (apt)"
  sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  if ! $sudo apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1; then
    { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends "$@"; } >/dev/null || {
      say "could not install $*: install it yourself and try again"
      exit 1
    }
  fi
}

need_build_tools() {
  need cc gcc libc6-dev
  if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
  command -v cargo >/dev/null 2>&1 || {
    say "no cargo: install Rust 1.95 or newer (https://rustup.rs) and try again"
    exit 1
  }
}

# The router without RocksDB: records in memory.
build_light() {
  [ -x "$light/warren" ] || say "building (about 3 minutes on 2 cores, once)"
  CARGO_TARGET_DIR="$target/light" cargo build --release --quiet --manifest-path "$here/Cargo.toml" \
    -p warren-router --no-default-features --features app
}

# The simulator, beside the router that calls it.
build_sim() {
  [ -x "$light/warren-sim" ] || say "building the simulator (about 2 minutes on 2 cores, once)"
  CARGO_TARGET_DIR="$target/light" cargo build --release --quiet --manifest-path "$here/Cargo.toml" -p warren-sim
}

# Points the build at librocksdb.a, which is made once.
use_rocksdb() {
  "$here/scripts/rocksdb"
  ROCKSDB_LIB_DIR=$("$here/scripts/rocksdb" --where)
  ROCKSDB_STATIC=1
  BINDGEN_EXTRA_CLANG_ARGS="-isystem $(gcc -print-file-name=include)"
  export ROCKSDB_LIB_DIR ROCKSDB_STATIC BINDGEN_EXTRA_CLANG_ARGS
}

# The whole router.
build_full() {
  use_rocksdb
  [ -x "$full/warren" ] || say "building (about 4 minutes on 2 cores, once)"
  cargo build --release --quiet --manifest-path "$here/Cargo.toml" -p warren-router
}
