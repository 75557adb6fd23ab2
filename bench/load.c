/* Load for an authentication server: many connections with many requests in flight each, and how long answers took.
 *
 *   load [options] SOCKET
 *     -q KIND   auth (default): AUTH PLAIN on a client socket; user, pass, list: lookups on a master socket
 *     -c N      connections (1)                  -k N   requests in flight on each (1)
 *     -t SECS   measure that long (1)            -w SECS  warm up before, unmeasured (0)
 *     -n N      stop after N replies             -r RATE  requests a second, sent on time whatever comes back
 *     -x       say no-penalty, as login processes do for clients of trusted networks
 *     -u NAME   user name; one %d in it counts up (u%d@x)      -p PASSWORD (pass)
 *
 * Without -r each reply is followed by the next request at once. With -r latency counts from when a request was due,
 * so a server that stands still cannot hide it. One line of JSON comes out; times are in microseconds.
 * Exit status 1: the server closed a connection, or answered nothing for 30 s.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define USERS 1000
#define READ 65536
#define SUB 32 /* histogram buckets for each power of two: values are told within 3 % */

struct conn {
	int fd, ready, writing;
	char *in, *out;
	size_t in_len, out_len, out_size;
	double *due;       /* by slot: when its request was due; 0 while it is free */
	unsigned *turn;    /* by slot: how often it was used; id = turn * k + slot + 1 */
};

static const char *kind = "auth", *name = "u%d@x", *password = "pass";
static int conns = 1, inflight = 1, no_penalty, ep;
static double seconds = 1, warmup, rate, measured_from;
static unsigned long limit, sent, answered, replies, ok, failed, listed, slow_starts, histogram[64 * SUB];
static double longest;
static char *users[USERS];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

static void *need(void *p)
{
	if (p == NULL) die("memory");
	return p;
}

static char *base64(const unsigned char *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = need(calloc(len / 3 * 4 + 5, 1)), *p = text;
	for (size_t i = 0; i < len; i += 3) {
		unsigned v = data[i] << 16 | (i + 1 < len ? data[i + 1] << 8 : 0) | (i + 2 < len ? data[i + 2] : 0);
		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < len ? digits[v & 63] : '=';
	}
	return text;
}

static void make_users(void)
{
	for (int i = 0; i < USERS; i++) {
		char user[256], plain[600];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(user, sizeof user, name, i);
#pragma GCC diagnostic pop
		int len = snprintf(plain, sizeof plain, "%c%s%c%s", 0, user, 0, password);
		users[i] = strcmp(kind, "auth") == 0 ? base64((unsigned char *)plain, len) : need(strdup(user));
	}
}

static void record(double took)
{
	unsigned long us10 = took > 0 ? (unsigned long)(took * 1e7) : 0; /* tenths of microseconds */
	int power = us10 < SUB ? 0 : 63 - __builtin_clzl(us10) - 4;
	histogram[power * SUB + (power ? (us10 >> (power - 1)) - SUB : us10)]++;
	if (took > longest) longest = took;
}

static double percentile(double share)
{
	unsigned long want = replies * share, seen = 0;
	for (int i = 0; i < 64 * SUB; i++) {
		seen += histogram[i];
		if (seen > want) {
			int power = i / SUB;
			return (power ? (unsigned long)(i % SUB + SUB) << (power - 1) : (unsigned long)i) / 10.0;
		}
	}
	return longest * 1e6;
}

static void flush(struct conn *c)
{
	ssize_t n = c->out_len ? write(c->fd, c->out, c->out_len) : 0;
	if (n < 0 && errno != EAGAIN) die("write");
	if (n > 0) memmove(c->out, c->out + n, c->out_len -= n);
	int writing = c->out_len > 0;
	if (writing != c->writing) {
		struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
		epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
		c->writing = writing;
	}
}

static void ask(struct conn *c, int slot, double due)
{
	if (c->out_size - c->out_len < 1024) c->out = need(realloc(c->out, c->out_size = 2 * c->out_size + 4096));
	char *out = c->out + c->out_len, *user = users[sent++ % USERS];
	unsigned id = c->turn[slot]++ * inflight + slot + 1;
	c->due[slot] = due;
	if (strcmp(kind, "auth") == 0)
		c->out_len += snprintf(out, 1024, "AUTH\t%u\tPLAIN\tservice=imap\tsecured\tsession=wGM65tdgfOJ/AAAB"
			"\tlip=192.0.2.1\trip=198.51.100.7\tlport=143\trport=57980%s\tresp=%s\n", id, no_penalty ? "\tno-penalty" : "", user);
	else if (strcmp(kind, "list") == 0)
		c->out_len += snprintf(out, 1024, "LIST\t%u\tservice=doveadm\n", id);
	else
		c->out_len += snprintf(out, 1024, "%s\t%u\t%s\tservice=imap\tlip=192.0.2.1\trip=198.51.100.7\n",
			strcmp(kind, "pass") == 0 ? "PASS" : "USER", id, user);
}

static void reply(struct conn *c, const char *line)
{
	if (!c->ready) {
		c->ready = strncmp(line, strcmp(kind, "auth") == 0 ? "DONE" : "SPID", 4) == 0;
		return;
	}
	const char *tab = strchr(line, '\t');
	if (tab == NULL) die(line);
	if (strncmp(line, "LIST\t", 5) == 0) {
		listed++;
		return;
	}
	unsigned id = strtoul(tab + 1, NULL, 10);
	int slot = (id - 1) % inflight;
	if (id == 0 || c->due[slot] == 0) die("an answer to what was not asked");
	double t = now(), due = c->due[slot];
	c->due[slot] = 0;
	answered++;
	if (t < measured_from) return;
	replies++;
	if (!strncmp(line, "OK\t", 3) || !strncmp(line, "USER\t", 5) || !strncmp(line, "PASS\t", 5) || !strncmp(line, "DONE\t", 5))
		ok++;
	else
		failed++;
	record(t - due);
}

static void take(struct conn *c)
{
	ssize_t n = read(c->fd, c->in + c->in_len, READ - c->in_len - 1);
	if (n < 0 && errno == EAGAIN) return;
	if (n <= 0) die("the server closed a connection");
	c->in_len += n;
	char *p = c->in, *end;
	while ((end = memchr(p, '\n', c->in + c->in_len - p)) != NULL) {
		*end = 0;
		reply(c, p);
		p = end + 1;
	}
	memmove(c->in, p, c->in_len -= p - c->in);
}

static void open_connection(struct conn *c, const char *path, int pid)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char hello[64];
	if (strlen(path) >= sizeof a.sun_path) die("the socket's path is too long");
	strcpy(a.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) die("socket");
	while (connect(c->fd, (void *)&a, sizeof a) < 0) {
		if (errno != EAGAIN) die("connect");
		usleep(1000);
	}
	c->in = need(malloc(READ));
	c->due = need(calloc(inflight, sizeof *c->due));
	c->turn = need(calloc(inflight, sizeof *c->turn));
	int len = strcmp(kind, "auth") == 0 ? sprintf(hello, "VERSION\t1\t2\nCPID\t%d\n", pid) : sprintf(hello, "VERSION\t1\t1\n");
	if (write(c->fd, hello, len) != len) die("hello");
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0) die("epoll");
}

/* Wait until *until* for something to happen; precise, unlike epoll_wait's milliseconds. */
static int wait(struct epoll_event *events, int size, double until)
{
	double left = until - now();
	if (left > 0) {
		struct pollfd p = {.fd = ep, .events = POLLIN};
		struct timespec t = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - (time_t)left) * 1e9)};
		ppoll(&p, 1, &t, NULL);
	}
	return epoll_wait(ep, events, size, 0);
}

int main(int argc, char **argv)
{
	int option;
	while ((option = getopt(argc, argv, "q:c:k:t:w:n:r:u:p:x")) != -1) switch (option) {
		case 'q': kind = optarg; break;
		case 'c': conns = atoi(optarg); break;
		case 'k': inflight = atoi(optarg); break;
		case 't': seconds = atof(optarg); break;
		case 'w': warmup = atof(optarg); break;
		case 'n': limit = strtoul(optarg, NULL, 10); break;
		case 'r': rate = atof(optarg); break;
		case 'u': name = optarg; break;
		case 'p': password = optarg; break;
		case 'x': no_penalty = 1; break;
		default: return 2;
	}
	if (optind != argc - 1 || conns < 1 || inflight < 1) return 2;
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	prctl(PR_SET_TIMERSLACK, 1);
	make_users();
	ep = epoll_create1(EPOLL_CLOEXEC);
	struct conn *all = need(calloc(conns, sizeof *all));
	struct epoll_event events[256];
	int ready = 0;
	double start = now(), last = start;
	for (int i = 0; i < conns; i++) open_connection(&all[i], argv[optind], 10000 + i);
	while (ready < conns) {
		int n = wait(events, 256, now() + 1);
		for (int i = 0; i < n; i++) take(events[i].data.ptr);
		if (n > 0) last = now();
		if (now() - last > 30) die("no handshake for 30 s");
		for (; ready < conns && all[ready].ready; ready++) ;
	}
	double connected = now() - start;

	start = last = now();
	measured_from = start + warmup;
	double end = measured_from + seconds, next = start;
	int turn = 0;
	if (rate == 0)
		for (int i = 0; i < conns; i++) {
			for (int slot = 0; slot < inflight && (limit == 0 || sent < limit); slot++) ask(&all[i], slot, now());
			flush(&all[i]);
		}
	for (;;) {
		double t = now();
		if (t >= end || (limit && answered >= limit)) break;
		if (t - last > 30) die("no answer for 30 s");
		for (; rate > 0 && next <= t && next < end; next += 1 / rate) {
			int tried = 0, slot = inflight;
			struct conn *c = NULL;
			for (; slot == inflight && tried < conns; tried++) {
				c = &all[turn++ % conns];
				for (slot = 0; slot < inflight && c->due[slot] != 0; slot++) ;
			}
			if (slot == inflight) { /* all are taken: this one is sent late, and counted from when it was due */
				slow_starts++;
				break;
			}
			ask(c, slot, next);
			flush(c);
		}
		double until = rate > 0 && next > t && next < t + 0.1 ? next : rate > 0 ? t + 0.0005 : t + 0.1;
		int n = wait(events, 256, until < end ? until : end);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (events[i].events & ~EPOLLOUT) take(c);
			if (rate == 0)
				for (int slot = 0; slot < inflight && (limit == 0 || sent < limit); slot++)
					if (c->due[slot] == 0) ask(c, slot, now());
			flush(c);
		}
		if (n > 0) last = now();
	}
	double took = now() - measured_from;
	printf("{\"replies\": %lu, \"ok\": %lu, \"failed\": %lu, \"listed\": %lu, \"late\": %lu, \"seconds\": %.6f, \"per_second\": %.1f, "
	       "\"connect_seconds\": %.6f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"max\": %.1f}\n",
	       replies, ok, failed, listed, slow_starts, took, replies / took, connected,
	       percentile(0.5), percentile(0.9), percentile(0.99), longest * 1e6);
	return 0;
}
