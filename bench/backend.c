/* A web server that answers each request 100 ms after it came: prints its port, serves until killed.
 *
 * Answers are due in the order in which requests came, so they wait in a plain queue. Requests have no body; a client
 * that sends the next before it has its answer gets both, in order. In C, so that on a machine of two cores the
 * backend is not what is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DELAY 0.1
#define SLOTS (1 << 17) /* answers that may be due at once */
#define FDS (1 << 17)

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{PLAIN}pass";

static struct due {
	double at;
	int fd;
	unsigned life; /* of the descriptor: an answer is not for who has its number next */
} due[SLOTS];
static unsigned head, tail;
static unsigned lives[FDS];
static unsigned char matched[FDS]; /* how much of the empty line at a request's end has come */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void received(int fd)
{
	static const char END[] = "\r\n\r\n";
	char buffer[65536];
	ssize_t size = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);

	if (size <= 0) {
		lives[fd]++;
		matched[fd] = 0;
		close(fd);
		return;
	}
	for (ssize_t i = 0; i < size; i++) {
		if (buffer[i] == END[matched[fd]])
			matched[fd]++;
		else
			matched[fd] = buffer[i] == '\r';
		if (matched[fd] == 4) {
			matched[fd] = 0;
			if (head - tail == SLOTS)
				errx(1, "more than %d answers are due", SLOTS);
			due[head++ % SLOTS] = (struct due){ now() + DELAY, fd, lives[fd] };
		}
	}
}

int main(void)
{
	struct rlimit files;
	struct sockaddr_in place = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof place;
	struct epoll_event events[256];
	int on = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (bind(listener, (struct sockaddr *)&place, sizeof place) < 0 || listen(listener, 5000) < 0)
		err(1, "listen");
	getsockname(listener, (struct sockaddr *)&place, &length);
	printf("%d\n", ntohs(place.sin_port));
	fflush(stdout);
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){ .events = EPOLLIN, .data.fd = listener });
	for (;;) {
		double left = head == tail ? -1 : due[tail % SLOTS].at - now();
		int timeout = head == tail ? -1 : left > 0 ? (int)(left * 1000) + 1 : 0;
		int count = epoll_wait(epoll, events, 256, timeout);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd != listener) {
				received(fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				if (fd >= FDS)
					errx(1, "too many connections");
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
				epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
					  &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
			}
		}
		for (double time = now(); head != tail && due[tail % SLOTS].at <= time; tail++) {
			struct due *one = &due[tail % SLOTS];

			if (lives[one->fd] == one->life &&
			    send(one->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
				shutdown(one->fd, SHUT_RDWR);
		}
	}
}
