/* A small web server in C with one flaw: PUT /module stores the body as a module and loads it, whoever asks. It is a
 * target for tests: never run it elsewhere. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HEAD = 16384, MAX_BODY = 16 << 20 };

static int put(const char *path, const char *data, size_t n, mode_t mode) {
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	if (fd < 0) return -1;
	while (n > 0) {
		ssize_t w = write(fd, data, n);
		if (w <= 0) { close(fd); return -1; }
		data += w;
		n -= (size_t)w;
	}
	return close(fd);
}

static void answer(int c, int status, const char *text) {
	char head[256];
	int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, status < 400 ? "OK" : "Error", strlen(text));
	if (write(c, head, (size_t)n) < 0 || write(c, text, strlen(text)) < 0) return;
}

static int page(int c, const char *query) {
	int item = 0;
	if (strncmp(query, "item=", 5) == 0) item = atoi(query + 5) & 1023;
	char path[128], text[128];
	mkdir("/data/cache", 0755);
	snprintf(path, sizeof path, "/data/cache/item-%d.html", item);
	snprintf(text, sizeof text, "<!doctype html><title>Item %d</title>\n", item);
	if (access(path, R_OK) != 0) put(path, text, strlen(text), 0644);
	answer(c, 200, text);
	return 200;
}

static int module(int c, const char *body, size_t n) {
	const char *path = "/data/plugins/module.so";
	if (put(path, body, n, 0644) != 0 || dlopen(path, RTLD_NOW) == NULL) { /* the flaw */
		answer(c, 422, "no module\n");
		return 422;
	}
	answer(c, 200, "loaded\n");
	return 200;
}

struct client { int fd; struct sockaddr_in addr; };

static void *serve(void *arg) {
	struct client *cl = arg;
	char *buf = malloc(MAX_HEAD + 1), *body = NULL, *end = NULL;
	size_t have = 0;
	while (buf && have < MAX_HEAD) {
		ssize_t n = read(cl->fd, buf + have, MAX_HEAD - have);
		if (n <= 0) break;
		have += (size_t)n;
		buf[have] = 0;
		if ((end = strstr(buf, "\r\n\r\n")) != NULL) break;
	}
	char method[16] = "", target[2048] = "";
	if (end && sscanf(buf, "%15s %2047s", method, target) == 2) {
		size_t want = 0, got = have - (size_t)(end + 4 - buf);
		char *h = strcasestr(buf, "\r\nContent-Length:");
		if (h && h < end) want = strtoul(h + 17, NULL, 10);
		if (want > MAX_BODY) want = MAX_BODY;
		body = malloc(want + 1);
		if (body) {
			if (got > want) got = want;
			memcpy(body, end + 4, got);
			while (got < want) {
				ssize_t n = read(cl->fd, body + got, want - got);
				if (n <= 0) break;
				got += (size_t)n;
			}
		}
		char path[2048];
		snprintf(path, sizeof path, "%s", target);
		char *query = strchr(path, '?');
		if (query) *query++ = 0;
		int status = 404;
		if (!strcmp(path, "/healthz")) { status = 200; answer(cl->fd, 200, "ok\n"); }
		else if (!strcmp(path, "/") && !strcmp(method, "GET")) status = page(cl->fd, query ? query : "");
		else if (!strcmp(path, "/module") && !strcmp(method, "PUT") && body) status = module(cl->fd, body, got);
		else answer(cl->fd, 404, "not found\n");
		char when[64], from[64];
		time_t now = time(NULL);
		struct tm tm;
		strftime(when, sizeof when, "%d/%b/%Y:%H:%M:%S +0000", gmtime_r(&now, &tm));
		printf("%s - - [%s] \"%s %s HTTP/1.1\" %d 0\n", inet_ntop(AF_INET, &cl->addr.sin_addr, from, sizeof from), when, method, target, status);
		fflush(stdout);
	}
	free(body);
	free(buf);
	close(cl->fd);
	free(cl);
	return NULL;
}

static void bye(int sig) { (void)sig; _exit(0); }

int main(void) {
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, bye);
	char text[32];
	snprintf(text, sizeof text, "%d", getpid());
	put("/data/cweb.pid", text, strlen(text), 0644);
	const char *listen_on = getenv("LISTEN");
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)};
	if (listen_on) {
		char host[64];
		snprintf(host, sizeof host, "%s", listen_on);
		char *colon = strrchr(host, ':');
		if (colon) { *colon = 0; a.sin_port = htons((unsigned short)atoi(colon + 1)); inet_pton(AF_INET, host, &a.sin_addr); }
	}
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 128) != 0) { perror("listen"); return 1; }
	for (;;) {
		struct client *c = calloc(1, sizeof *c);
		socklen_t n = sizeof c->addr;
		if (!c || (c->fd = accept4(s, (struct sockaddr *)&c->addr, &n, SOCK_CLOEXEC)) < 0) { free(c); continue; }
		pthread_t t;
		if (pthread_create(&t, NULL, serve, c) == 0) pthread_detach(t);
		else { close(c->fd); free(c); }
	}
}
