// SPDX-License-Identifier: Apache-2.0
// nbd DEVICE FILE: gives an nbd device the content of a file until its server, the second process, is killed.
#include <endian.h>
#include <linux/nbd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "guest.h"

static bool receive(int fd, void *data, size_t size)
{
	return recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static void send_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, (const char *)data + done, size - done, 0);

		if (n < 0)
			die_errno("send");
		done += n;
	}
}

static void answer(int fd, int file, const struct nbd_request *request)
{
	struct nbd_reply reply = { .magic = htobe32(NBD_REPLY_MAGIC) };
	uint32_t size = be32toh(request->len);
	uint64_t at = be64toh(request->from);
	uint32_t type = be32toh(request->type) & 0xffff;
	bool writes = type == NBD_CMD_WRITE;
	bool moves = writes || type == NBD_CMD_READ;
	char *data = allocate(moves ? size : BLOCK);

	// Where a kernel calls the handle a cookie, too, its place is the same.
	memcpy(&reply.handle, &request->handle, sizeof(reply.handle));
	if (writes && (!receive(fd, data, size) || pwrite(file, data, size, at) != (ssize_t)size))
		die_errno("write");
	if (type == NBD_CMD_READ)
		read_all(file, "the file", data, size, at);
	send_all(fd, &reply, sizeof(reply));
	if (type == NBD_CMD_READ)
		send_all(fd, data, size);
	free(data);
}

// Returns when the server has gone.
static void connect_device(int device, int fd, uint64_t size)
{
	if (ioctl(device, NBD_SET_BLKSIZE, (unsigned long)SECTOR) ||
	    ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / SECTOR)) ||
	    ioctl(device, NBD_SET_FLAGS, (unsigned long)(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)) ||
	    ioctl(device, NBD_SET_SOCK, (unsigned long)fd))
		die_errno("connecting");
	ioctl(device, NBD_DO_IT);
	ioctl(device, NBD_CLEAR_SOCK);
}

int main(int argc, char **argv)
{
	struct nbd_request request;
	int device, file, pair[2];
	pid_t server;

	if (argc != 3)
		die("usage: nbd DEVICE FILE");
	device = open(argv[1], O_RDWR);
	if (device < 0)
		die_errno(argv[1]);
	file = open(argv[2], O_RDWR);
	if (file < 0)
		die_errno(argv[2]);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die_errno("socketpair");
	server = fork();
	if (server < 0)
		die_errno("fork");
	if (server == 0) {
		close(device);
		close(pair[0]);
		while (receive(pair[1], &request, sizeof(request)))
			answer(pair[1], file, &request);
		return 0;
	}
	close(pair[1]);
	connect_device(device, pair[0], size_of(file, argv[2]));
	kill(server, SIGTERM);
	waitpid(server, NULL, 0);
	return 0;
}
