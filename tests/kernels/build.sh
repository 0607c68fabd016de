#!/usr/bin/env bash
# Makes the card in software: libraries that stand in for CUDA's, in FOLDER. A program finds them there before the real ones by
#
#     tests/kernels/build.sh FOLDER && LD_LIBRARY_PATH=FOLDER:$LD_LIBRARY_PATH TALKIE_TEST_DEVICE=cuda …
#
# Candle's kernels are taken from the sources that the program was built of, talkie's own from src/compute/kernels/cuda. CUDA's headers are those beside
# nvcc.
set -euo pipefail
out=$(realpath -m "${1:?usage: build.sh FOLDER}")
cd "$(dirname "$0")/../.."

headers=$(dirname "$(dirname "$(realpath "$(command -v nvcc)")")")/include
[ -e "$headers/cuda_fp16.h" ] || headers=$(dirname "$(dirname "$(command -v nvcc)")")/include
candle=$(cargo metadata --format-version 1 --locked --no-default-features --features cuda --filter-platform x86_64-unknown-linux-gnu |
    tr ',' '\n' | sed -nE 's/"manifest_path":"(.*candle-kernels-[^/]*)\/Cargo.toml"/\1/p')
mkdir -p "$out"
compile() {
    "${CXX:-c++}" -std=c++17 -O2 -fno-strict-aliasing -w -fPIC -I tests/kernels -isystem "$headers" -isystem "$headers/cccl" "$@"
}
for source in affine binary cast conv fill indexing reduce ternary unary; do
    compile -c -x c++ -include candle.hpp "$candle/src/$source.cu" -o "$out/$source.o" &
    # Two at a time.
    [ "$(jobs -pr | wc -l)" -lt 2 ] || wait -n
done
wait
compile -c -x c++ -include own.hpp src/compute/kernels/cuda/kernels.cu -o "$out/own.o"
compile -c tests/kernels/card.cpp -o "$out/card.o"
# What candle defines once in each of its files is the same in all. Only names of C leave the library: those of C++ would be taken by
# others that have the same.
echo '{ global: [a-z]*; local: *; };' >"$out/names"
"${CXX:-c++}" -shared -Wl,--allow-multiple-definition -Wl,--version-script="$out/names" -Wl,-soname,libcuda.so.1 \
    -o "$out/libcuda.so.1" "$out"/*.o -ldl
rm "$out"/*.o "$out/names"
for library in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libcudnn.so.9; do
    ln -sf libcuda.so.1 "$out/$library"
done
