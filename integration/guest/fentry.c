// SPDX-License-Identifier: Apache-2.0
// fentry entry|exit FUNCTION: attaches a BPF program that does nothing to the entry or the exit of a kernel function, prints
// "attached" and stays until SIGTERM. When the kernel refuses to attach it, prints the errno's name instead and exits with 1.
#include <signal.h>
#include <sys/syscall.h>

#include <linux/bpf.h>
#include <linux/btf.h>

#include "guest.h"

enum { MAX_BTF = 64 << 20, LOG_SIZE = 1 << 16 };

static unsigned char *read_btf(void)
{
	const char *path = "/sys/kernel/btf/vmlinux";
	unsigned char *btf = allocate(MAX_BTF);
	int fd = open(path, O_RDONLY);
	size_t size = 0;
	ssize_t n;

	if (fd < 0)
		die_errno(path);
	while ((n = read(fd, btf + size, MAX_BTF - size)) > 0)
		size += n;
	if (n < 0)
		die_errno(path);
	close(fd);
	return btf;
}

// The bytes behind struct btf_type, by the kind of type.
static size_t size_behind(const struct btf_type *type)
{
	uint32_t nr = BTF_INFO_VLEN(type->info);

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return nr * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return nr * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return nr * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return nr * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return nr * sizeof(struct btf_var_secinfo);
	default:
		return 0;
	}
}

static uint32_t find_function(const unsigned char *btf, const char *name)
{
	const struct btf_header *header = (const void *)btf;
	const unsigned char *at = btf + header->hdr_len + header->type_off;
	const unsigned char *end = at + header->type_len;
	const char *strings = (const char *)btf + header->hdr_len + header->str_off;

	for (uint32_t id = 1; at < end; id++) {
		const struct btf_type *type = (const void *)at;

		if (BTF_INFO_KIND(type->info) == BTF_KIND_FUNC && !strcmp(strings + type->name_off, name))
			return id;
		at += sizeof(*type) + size_behind(type);
	}
	die("the kernel has no function %s", name);
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load(enum bpf_attach_type type, uint32_t function)
{
	// return 0
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	char *log = allocate(LOG_SIZE);
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = type,
		.attach_btf_id = function,
		.insns = (uintptr_t)program,
		.insn_cnt = 2,
		.license = (uintptr_t)&"GPL",
		.log_buf = (uintptr_t)log,
		.log_size = LOG_SIZE,
		.log_level = 1,
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);

	if (fd < 0)
		die("loading: %s\n%s", strerrorname_np(errno), log);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[1], "entry") && strcmp(argv[1], "exit")))
		die("usage: fentry entry|exit FUNCTION");
	enum bpf_attach_type type = strcmp(argv[1], "exit") ? BPF_TRACE_FENTRY : BPF_TRACE_FEXIT;
	union bpf_attr attr = {
		.raw_tracepoint = { .prog_fd = load(type, find_function(read_btf(), argv[2])) },
	};

	if (bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) < 0) {
		puts(strerrorname_np(errno));
		return 1;
	}
	puts("attached");
	fflush(stdout);
	pause();
	return 0;
}
