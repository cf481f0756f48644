/* A library for LD_PRELOAD: it stands for a credential hook. Its one function is called for every connection that
   the program accepts, and passes it on unchanged. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

static const char mark[] __attribute__((used)) = "sherd-lab preload hook";

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	static int (*next)(int, struct sockaddr *, socklen_t *, int);
	if (!next)
		next = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
	return next(fd, addr, len, flags);
}
