/* Network devices of the host, moved into the container's network namespace and, when the start fails after all, back.
 *
 * By rtnetlink with two sockets, one in each namespace. A device first gets a name of its own there that nobody else has: by that
 * it is found again, whatever its number is now, and a name that is taken fails before anything is lost. Parent half.
 */
#include "job.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ROOM 8192

struct message {
	union {
		struct nlmsghdr head;
		char bytes[ROOM];
	};
};

struct device {
	int index;
	unsigned flags;
	int master; /* the bridge or bond that it belongs to; 0 for none */
};

/* What must be known to give a device back. */
struct pc_moved {
	struct pc_moved *next;
	char name[IFNAMSIZ];
	int index; /* in the container's namespace */
	struct device was;
	struct message *addresses; /* RTM_NEWADDR requests, one after another */
	size_t n_bytes;
};

struct pc_network {
	int host; /* sockets */
	int inside;
	int host_ns; /* the namespace */
	struct pc_moved *moved; /* the last one first */
};

/* --- rtnetlink -------------------------------------------------------------------------------------------------- */

static void *begin(struct message *m, uint16_t type, uint16_t flags, size_t body)
{
	memset(m, 0, NLMSG_SPACE(body));
	m->head = (struct nlmsghdr){.nlmsg_len = (uint32_t)NLMSG_LENGTH(body), .nlmsg_type = type,
				    .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
	return NLMSG_DATA(&m->head);
}

static void attribute(struct message *m, uint16_t type, const void *data, size_t n)
{
	struct rtattr *a = (struct rtattr *)(void *)(m->bytes + NLMSG_ALIGN(m->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), data, n);
	m->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

static int send_message(int nl, const struct message *m)
{
	long n = sys_write(nl, m, m->head.nlmsg_len);

	return n < 0 ? (int)n : 0;
}

/* Calls `each` for every part of the answer, whose last is an acknowledgement or the end of a dump; the kernel's own error, or 0. */
static int answers(int nl, int (*each)(const struct nlmsghdr *, void *), void *context)
{
	struct message m;

	for (;;) {
		long n = sys_read(nl, m.bytes, sizeof m.bytes);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *h = &m.head; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			int err = each ? each(h, context) : 0;
			if (err < 0)
				return err;
		}
	}
}

static int talk(int nl, struct message *m)
{
	m->head.nlmsg_flags |= NLM_F_ACK;
	int err = send_message(nl, m);
	return err < 0 ? err : answers(nl, NULL, NULL);
}

/* The attribute after `a`, or the first one after a body of that size; NULL at the end. */
static const struct rtattr *next_attribute(const struct nlmsghdr *h, size_t body, const struct rtattr *a)
{
	const char *const end = (const char *)h + h->nlmsg_len;
	const char *at = a ? (const char *)a + RTA_ALIGN(a->rta_len) : (const char *)NLMSG_DATA(h) + NLMSG_ALIGN(body);

	if (end - at < (long)sizeof *a)
		return NULL;
	a = (const struct rtattr *)(const void *)at;
	return a->rta_len >= sizeof *a && a->rta_len <= end - at ? a : NULL;
}

static int read_device(const struct nlmsghdr *h, void *context)
{
	struct device *d = context;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	const struct ifinfomsg *link = NLMSG_DATA(h);
	d->index = link->ifi_index;
	d->flags = link->ifi_flags;
	const struct rtattr *a = NULL;
	while ((a = next_attribute(h, sizeof *link, a)) != NULL)
		if (a->rta_type == IFLA_MASTER)
			memcpy(&d->master, RTA_DATA(a), sizeof d->master);
	return 0;
}

static int find_device(int nl, const char *name, struct device *d)
{
	struct message m;

	*d = (struct device){0};
	(void)begin(&m, RTM_GETLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
	int err = send_message(nl, &m);
	if (err == 0)
		err = answers(nl, read_device, d);
	return err < 0 ? err : d->index ? 0 : -ENODEV;
}

static struct ifinfomsg *link_request(struct message *m, int index)
{
	struct ifinfomsg *link = begin(m, RTM_NEWLINK, 0, sizeof *link);

	link->ifi_index = index;
	return link;
}

static int move_device(int nl, int index, int to_ns, const char *name)
{
	struct message m;

	(void)link_request(&m, index);
	attribute(&m, IFLA_NET_NS_FD, &to_ns, sizeof to_ns);
	attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
	return talk(nl, &m);
}

static int name_device(int nl, int index, const char *name)
{
	struct message m;

	(void)link_request(&m, index);
	attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
	return talk(nl, &m);
}

static int set_up(int nl, int index)
{
	struct message m;
	struct ifinfomsg *link = link_request(&m, index);

	link->ifi_flags = link->ifi_change = IFF_UP;
	return talk(nl, &m);
}

static int set_master(int nl, int index, int master)
{
	struct message m;

	(void)link_request(&m, index);
	attribute(&m, IFLA_MASTER, &master, sizeof master);
	return talk(nl, &m);
}

/* --- addresses -------------------------------------------------------------------------------------------------- */

/* What belongs to an address and not to the kernel's own bookkeeping of it. */
#define KEPT_FLAGS (IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

/* Permanent ones of global scope. Spec: config-linux.md, "Network Devices". As a request to make them again; the number of the
 * device is filled in then. */
static int keep_address(const struct nlmsghdr *h, void *context)
{
	struct pc_moved *moved = context;
	const struct ifaddrmsg *from = NLMSG_DATA(h);
	struct message m;
	uint32_t flags = from->ifa_flags;

	if (h->nlmsg_type != RTM_NEWADDR || (int)from->ifa_index != moved->was.index)
		return 0;
	struct ifaddrmsg *to = begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *to);
	*to = *from;
	const struct rtattr *a = NULL;
	while ((a = next_attribute(h, sizeof *from, a)) != NULL) {
		if (a->rta_type == IFA_FLAGS)
			memcpy(&flags, RTA_DATA(a), sizeof flags);
		else if (a->rta_type == IFA_ADDRESS || a->rta_type == IFA_LOCAL || a->rta_type == IFA_BROADCAST ||
			 a->rta_type == IFA_RT_PRIORITY)
			attribute(&m, a->rta_type, RTA_DATA(a), (size_t)RTA_PAYLOAD(a));
	}
	if (!(flags & IFA_F_PERMANENT) || from->ifa_scope != RT_SCOPE_UNIVERSE)
		return 0;
	flags &= KEPT_FLAGS;
	to->ifa_flags = (uint8_t)flags;
	attribute(&m, IFA_FLAGS, &flags, sizeof flags);
	size_t bytes = NLMSG_ALIGN(m.head.nlmsg_len);
	char *more = realloc(moved->addresses, moved->n_bytes + bytes);
	if (more == NULL)
		return -ENOMEM;
	memcpy(more + moved->n_bytes, &m, bytes);
	moved->addresses = (struct message *)(void *)more;
	moved->n_bytes += bytes;
	return 0;
}

static int keep_addresses(int nl, struct pc_moved *moved)
{
	struct message m;

	(void)begin(&m, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	int err = send_message(nl, &m);
	return err < 0 ? err : answers(nl, keep_address, moved);
}

static int make_addresses(int nl, const struct pc_moved *moved, int index)
{
	int err = 0;

	for (size_t at = 0; at < moved->n_bytes && err == 0;) {
		struct message m;
		const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)((const char *)moved->addresses + at);
		memcpy(&m, h, h->nlmsg_len);
		((struct ifaddrmsg *)NLMSG_DATA(&m.head))->ifa_index = (unsigned)index;
		at += NLMSG_ALIGN(h->nlmsg_len);
		err = talk(nl, &m);
	}
	return err;
}

/* --- there and back --------------------------------------------------------------------------------------------- */

struct opened {
	int ns;
	int result;
};

static int open_socket(void)
{
	return sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

static void *open_inside_main(void *arg)
{
	struct opened *o = arg;
	int err = sys_setns(o->ns, CLONE_NEWNET);

	o->result = err < 0 ? err : open_socket();
	return NULL;
}

/* A socket stays in the namespace that it was made in; the thread that goes there for it ends. */
static int open_inside(int ns)
{
	struct opened o = {.ns = ns};
	pthread_t thread;
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	int err = pthread_create(&thread, NULL, open_inside_main, &o);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err == 0)
		(void)pthread_join(thread, NULL);
	return err ? -err : o.result;
}

static bool same_namespace(int a, int b)
{
	struct statx x, y;

	return sys_statx(a, "", AT_EMPTY_PATH, STATX_INO, &x) == 0 && sys_statx(b, "", AT_EMPTY_PATH, STATX_INO, &y) == 0 &&
	       x.stx_ino == y.stx_ino;
}

static int open_network(struct pc_job *job, int ns)
{
	struct pc_network *n = calloc(1, sizeof *n);

	if (n == NULL)
		return -ENOMEM;
	n->host = n->inside = -1;
	job->network = n;
	/* of this very thread: the engine's caller may have put it into one of its own */
	n->host_ns = sys_openat(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC, 0);
	if (n->host_ns < 0)
		return n->host_ns;
	if (same_namespace(ns, n->host_ns))
		return -EBUSY;
	n->host = open_socket();
	n->inside = n->host < 0 ? n->host : open_inside(ns);
	return n->inside < 0 ? n->inside : 0;
}

static void name_for_a_moment(char *name)
{
	uint32_t random = 0;

	(void)getrandom(&random, sizeof random, 0); /* when it cannot, the name is taken at worst, which is an error */
	(void)snprintf(name, IFNAMSIZ, "pct%08x", random);
}

static int go_inside(struct pc_network *n, struct pc_moved *moved, int ns, const char *name)
{
	char own[IFNAMSIZ];
	struct device there;

	name_for_a_moment(own);
	int err = move_device(n->host, moved->was.index, ns, own);
	if (err < 0)
		return err;
	if ((err = find_device(n->inside, own, &there)) < 0)
		return err;
	moved->index = there.index;
	if ((err = name_device(n->inside, there.index, name)) < 0 ||
	    (err = make_addresses(n->inside, moved, there.index)) < 0)
		return err;
	return set_up(n->inside, there.index);
}

static int come_back(struct pc_network *n, const struct pc_moved *moved)
{
	struct device here;
	char own[IFNAMSIZ];

	name_for_a_moment(own);
	int err = move_device(n->inside, moved->index, n->host_ns, own);
	if (err == 0)
		err = find_device(n->host, own, &here);
	if (err < 0)
		return err;
	err = name_device(n->host, here.index, moved->name);
	if (err == -EEXIST) /* somebody has taken it meanwhile */
		err = name_device(n->host, here.index, "dev%d");
	int more = make_addresses(n->host, moved, here.index);
	if (more == 0 && moved->was.master)
		more = set_master(n->host, here.index, moved->was.master);
	if (more == 0 && (moved->was.flags & IFF_UP))
		more = set_up(n->host, here.index);
	return err < 0 ? err : more;
}

static void forget(struct pc_moved *moved)
{
	free(moved->addresses);
	free(moved);
}

int pc_move_device(struct pc_job *job, int ns, const char *host_name, const char *name)
{
	struct device taken;
	int err = job->network ? 0 : open_network(job, ns);

	if (err < 0)
		return err;
	struct pc_network *n = job->network;
	struct pc_moved *moved = calloc(1, sizeof *moved);
	if (moved == NULL)
		return -ENOMEM;
	(void)snprintf(moved->name, sizeof moved->name, "%s", host_name);
	name = *name ? name : host_name;
	if ((err = find_device(n->host, host_name, &moved->was)) == 0 && strchr(name, '%') == NULL &&
	    find_device(n->inside, name, &taken) == 0)
		err = -EEXIST;
	if (err == 0)
		err = keep_addresses(n->host, moved);
	if (err == 0 && (err = go_inside(n, moved, ns, name)) < 0 && moved->index)
		(void)come_back(n, moved); /* the first failure is the one to tell */
	if (err < 0) {
		forget(moved);
		return err;
	}
	moved->next = n->moved;
	n->moved = moved;
	return 0;
}

void pc_end_network(struct pc_job *job, bool give_back)
{
	struct pc_network *n = job->network;

	job->network = NULL;
	if (n == NULL)
		return;
	for (struct pc_moved *next, *moved = n->moved; moved != NULL; moved = next) {
		next = moved->next;
		if (give_back)
			(void)come_back(n, moved); /* each is tried; why the start failed is what is told */
		forget(moved);
	}
	fd_close(&n->host);
	fd_close(&n->inside);
	fd_close(&n->host_ns);
	free(n);
}
