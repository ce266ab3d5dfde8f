/* Bringing the loopback link up. Child half; what the parent does by rtnetlink is in netdev.c. */
#include "job.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

struct link_request {
	struct nlmsghdr head;
	struct ifinfomsg link;
};

struct link_answer {
	struct nlmsghdr head;
	struct nlmsgerr err;
	char rest[256];
};

/* The first link of a network namespace is `lo`, index 1. */
int pc_do_loopback_up(struct pc_child *c, const struct pc_op *op)
{
	struct link_request req = {
		.head = {.nlmsg_len = sizeof req, .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 1},
		.link = {.ifi_family = 0 /* AF_UNSPEC */, .ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP},
	};
	struct link_answer answer;
	scoped_fd int nl = sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	(void)c;
	(void)op;
	if (nl < 0)
		return nl;
	long n = sys_write(nl, &req, sizeof req);
	if (n < 0)
		return (int)n;
	n = sys_read(nl, &answer, sizeof answer);
	if (n < 0)
		return (int)n;
	if (n < (long)(sizeof answer.head + sizeof answer.err.error) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return answer.err.error;
}
