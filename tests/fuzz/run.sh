#!/bin/sh
# Runs one fuzz target for some seconds: tests/fuzz/run.sh match_block 60 [libFuzzer's options]
#
# The pinned stable toolchain does: coverage comes from LLVM's own pass, which the flags below name. With
# SANITIZER=address reads beyond the bytes are caught too (a -Z flag, so RUSTC_BOOTSTRAP=1 is set for it).
# `cargo +nightly fuzz run match_block` works as well. New inputs go to tests/fuzz/found/<target>; what crashes is
# written to tests/fuzz/artifacts.
set -eu
target=$1
seconds=$2
shift 2
cd "$(dirname "$0")"
triple=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
if [ -n "${SANITIZER:-}" ]; then
    flags="$flags -Zsanitizer=$SANITIZER"
    export RUSTC_BOOTSTRAP=1
fi
# A target triple keeps the flags away from build scripts.
RUSTFLAGS="$flags" cargo build --release --target "$triple" --bin "$target"
folder=${CARGO_TARGET_DIR:-target}/$triple/release
mkdir -p "found/$target" artifacts
exec "$folder/$target" -max_total_time="$seconds" -artifact_prefix=artifacts/ "$@" "found/$target" "corpus/$target"
