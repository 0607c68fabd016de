# talkie in two commands, on Debian or Ubuntu with Rust:
#
#   make demo    makes a film and says where it is
#   make test    runs the tests
#
# Both first install what the build lacks. They share most of their builds, not all: tests ask more of some dependencies.

# What `make demo` writes, and the sentence that it makes a film of.
DEMO   ?= demo.mp4
PROMPT ?= a big red ball bounces on a wooden floor

# Rust may have been installed a moment ago, before this shell read its profile.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What reads FFmpeg's headers for the binding: a library, and headers of its own.
LIBCLANG      := $(firstword $(foreach folder,/usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib, \
                   $(wildcard $(folder)/libclang.so* $(folder)/libclang-[0-9]*.so*)))
CLANG_HEADERS := $(firstword $(foreach folder,/usr/lib/llvm-*/lib /usr/lib64 /usr/lib, \
                   $(wildcard $(folder)/clang/*/include/stddef.h)))

.PHONY: demo test needs

demo: needs
	cargo build --locked
	@echo
	@echo 'The model in the box makes a film of: $(PROMPT)'
	@film=$$(cargo run --locked --quiet -- generate '$(PROMPT)' --seed 1 -o '$(DEMO)' --contact-sheet '$(basename $(DEMO)).png') && \
	echo && echo 'What the film itself says it was made from:' && cargo run --locked --quiet -- inspect '$(DEMO)' && \
	echo && echo "The film is $$film" && echo "Its frames and its sound, side by side: $${film%.*}.png"

test: needs
	@if cargo nextest --version >/dev/null 2>&1; then \
	    echo cargo nextest run --locked --no-fail-fast; cargo nextest run --locked --no-fail-fast; \
	else \
	    echo 'cargo-nextest is not installed: `cargo test` runs the same tests.'; \
	    echo cargo test --locked --all-targets --no-fail-fast; cargo test --locked --all-targets --no-fail-fast; \
	fi
	cargo test --locked --doc

# What the build lacks: Rust is asked for, everything else installed where there is apt-get.
needs:
	@command -v rustc >/dev/null && command -v cargo >/dev/null || { \
	    echo 'talkie is built with Rust 1.89 or newer. To install it: https://rustup.rs' >&2; exit 1; }
	@found=$$(rustc --version | cut -d' ' -f2); \
	printf '1.89\n%s\n' "$$found" | sort -V -C || { \
	    echo "talkie is built with Rust 1.89 or newer, and this is $$found. To renew it: rustup update" >&2; exit 1; }
	@lacking=; \
	command -v cc >/dev/null || lacking="$$lacking gcc libc6-dev"; \
	command -v pkg-config >/dev/null || lacking="$$lacking pkg-config"; \
	command -v ffprobe >/dev/null || lacking="$$lacking ffmpeg"; \
	for library in libavcodec libavformat libavutil; do \
	    pkg-config --exists $$library 2>/dev/null || lacking="$$lacking $$library-dev"; \
	done; \
	test "$$(uname)" = Darwin || test -n "$$LIBCLANG_PATH" || test -n '$(LIBCLANG)' -a -n '$(CLANG_HEADERS)' || \
	    lacking="$$lacking libclang-dev"; \
	test -n "$$lacking" || exit 0; \
	echo "The build lacks:$$lacking"; \
	if command -v apt-get >/dev/null; then \
	    root=; test "$$(id -u)" = 0 || root=sudo; \
	    test -z "$$root" || command -v sudo >/dev/null || { \
	        echo "There is no sudo here. As root: apt-get install$$lacking" >&2; exit 1; }; \
	    echo "Installing it: $$root apt-get install$$lacking"; \
	    $$root apt-get update -q && \
	    $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$lacking; \
	elif command -v brew >/dev/null; then \
	    echo 'To install it: brew install ffmpeg pkgconf, and xcode-select --install for the compiler' >&2; exit 1; \
	else \
	    echo 'Those are the names of Debian. Install what your system calls them, and try again:' >&2; \
	    echo 'a C compiler, pkg-config, libclang, FFmpeg 5.1 or newer with its headers and programs' >&2; exit 1; \
	fi
	@pkg-config --atleast-version=59.37 libavcodec || { \
	    echo "talkie needs FFmpeg 5.1 or newer (libavcodec 59.37), and this is libavcodec $$(pkg-config --modversion libavcodec)." >&2; \
	    echo 'Debian 12 and Ubuntu 24.04 have it. Without FFmpeg, for films as PNG frames: cargo build --no-default-features' >&2; exit 1; }
