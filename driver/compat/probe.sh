#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# probe.sh HEADER [DIRECTORY]: compiles every probe in DIRECTORY (compat/probes)
# against the kernel in KDIR, with that kernel's own flags, and writes what
# compiles as HAVE_<PROBE> into HEADER.  A probe says which upstream change it is
# for.
set -eu

out=$1
probes=${2:-$(dirname "$0")/probes}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$probes"/*.c "$work"
{
	echo 'ccflags-y += -Werror'
	for probe in "$work"/*.c; do
		echo "obj-m += $(basename "$probe" .c).o"
	done
} > "$work/Kbuild"

# A known-good probe first: a build tree that compiles nothing is not a kernel
# that has nothing.
# Objects only: to make a module of each would take twice as long.
objects=$(cd "$work" && for probe in *.c; do echo "${probe%.c}.o"; done)
# shellcheck disable=SC2086 # a list of words
${MAKE:-make} -k -C "$KDIR" M="$work" $objects > "$work/log" 2>&1 || true
if [ ! -e "$work/baseline.o" ]; then
	cat "$work/log" >&2
	echo "compat/probe.sh: cannot build modules with KDIR=$KDIR" >&2
	exit 1
fi

{
	echo '/* Made by compat/probe.sh */'
	for probe in "$work"/*.c; do
		name=$(basename "$probe" .c)
		if [ -e "$work/$name.o" ]; then
			echo "#define HAVE_$(echo "$name" | tr 'a-z' 'A-Z') 1"
		fi
	done
} > "$out.new"
if cmp -s "$out.new" "$out"; then
	rm "$out.new"
else
	mv "$out.new" "$out"
fi
