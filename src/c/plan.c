/* Decodes and bounds-checks a Plan. Assumes nothing about the bytes: they may come from another process or a fuzzer.
 *
 * After pc_plan_decode has said 0, every offset, list, blob and slot of every op lies inside the Plan, so that the
 * executors need no check of their own.
 */
#include "plan.h"
#include "sys.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NAMESPACES                                                                                                     \
	(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWUSER |       \
	 CLONE_NEWTIME)

#define PC_OP_FIELDS(symbol, fields) [PC_OP_##symbol] = (fields),
static const uint16_t op_fields[] = {PC_OPS(PC_OP_FIELDS)};
static const uint16_t section_bit[PC_SECTIONS] = {PC_IN_P, PC_IN_C, PC_IN_F};

bool pc_op_asks(uint16_t code)
{
	return code < PC_OP_COUNT && (op_fields[code] & PC_ASKS);
}

bool pc_op_makes_fd(uint16_t code)
{
	return code < PC_OP_COUNT && (op_fields[code] & PC_MAKES);
}

const char *pc_next(const char *s)
{
	while (*s != '\0')
		s++;
	return s + 1;
}

static int bad(uint32_t *where, uint64_t offset)
{
	*where = (uint32_t)offset;
	return -EBADMSG;
}

/* Whether `count` NUL-terminated strings start at `off`. The table is known to end in NUL. */
static bool list_fits(const struct pc_plan *plan, uint32_t off, uint32_t count)
{
	uint32_t len = plan->head.strings_len;

	for (uint32_t i = 0; i < count; i++) {
		if (off >= len)
			return false;
		const char *end = memchr(plan->strings + off, 0, len - off);
		if (end == NULL)
			return false;
		off = (uint32_t)(end - plan->strings) + 1;
	}
	return true;
}

static bool slot_fits(const struct pc_plan *plan, int32_t slot, bool required)
{
	if (slot == PC_NO_SLOT)
		return !required;
	return slot >= 0 && (uint32_t)slot < plan->head.n_slots;
}

static bool op_fits(const struct pc_plan *plan, const struct pc_op *op, enum pc_section section)
{
	uint32_t len = plan->head.strings_len;

	if (op->code == PC_OP_NONE || op->code >= PC_OP_COUNT)
		return false;
	unsigned fields = op_fields[op->code];
	if (!(fields & section_bit[section]))
		return false;
	if (!slot_fits(plan, op->slot, fields & PC_SLOT) || !slot_fits(plan, op->slot2, fields & PC_SLOT2))
		return false;
	if ((fields & PC_MAKES) && (uint32_t)op->slot < plan->head.n_given)
		return false;
	if (op->code == PC_OP_STDIO && !slot_fits(plan, (int32_t)op->n, false))
		return false;
	if (op->s1 >= len || op->s2 >= len || op->s3 >= len)
		return false;
	if ((fields & PC_LIST) && !list_fits(plan, op->s3, op->n))
		return false;
	if ((fields & PC_N_STRING) && op->n >= len)
		return false;
	if ((fields & PC_BLOB) && (op->n > len - op->s3 || ((uintptr_t)(plan->strings + op->s3) & 7) != 0))
		return false;
	return true;
}

/* The process that goes on has memory of its own, and what else it has of its own are namespaces. */
static bool fork_fits(const struct pc_plan *plan, const struct pc_op *op)
{
	return op->code != PC_OP_FORK || (!(plan->head.flags & PC_PLAN_SHARE_VM) && !(op->x & ~(uint64_t)NAMESPACES));
}

static bool is_number(const char *s, uint64_t most, uint64_t *n)
{
	size_t digits = 0;

	for (*n = 0; s[digits] >= '0' && s[digits] <= '9' && digits < 19; digits++)
		*n = *n * 10 + (uint64_t)(s[digits] - '0');
	return digits > 0 && s[digits] == '\0' && *n <= most;
}

/* What the stub will take for numbers are such, and there are as many words as they say. */
static bool hook_fits(const struct pc_plan *plan, const struct pc_op *op)
{
	const char *s = pc_str(plan, op->s3);
	uint64_t n[4];

	if (op->code != PC_OP_HOOK)
		return true;
	if (op->n < 4 || pc_str(plan, op->s1)[0] != '/' || (op->x != PC_SYNC_CREATE_CONTAINER && op->x != PC_SYNC_START_CONTAINER))
		return false;
	for (int i = 0; i < 4; i++, s = pc_next(s))
		if (!is_number(s, i == 1 ? UINT64_MAX / 2000000 : UINT32_MAX, &n[i]))
			return false;
	return n[2] > 0 && n[2] + n[3] + 4 == op->n;
}

static int check_header(const struct pc_plan_header *h, uint64_t len, uint32_t *where)
{
	if (h->magic != PC_PLAN_MAGIC)
		return bad(where, offsetof(struct pc_plan_header, magic));
	if (h->version != PC_PLAN_VERSION)
		return bad(where, offsetof(struct pc_plan_header, version));
	if (h->total_len != len)
		return bad(where, offsetof(struct pc_plan_header, total_len));
	if (h->flags & ~PC_PLAN_FLAGS)
		return bad(where, offsetof(struct pc_plan_header, flags));
	if (h->flags & PC_PLAN_ENTER ? h->enter_slot >= h->n_slots : h->enter_slot != 0)
		return bad(where, offsetof(struct pc_plan_header, enter_slot));
	/* what joins a container has its own memory from its first step on, and makes nothing by its clone */
	if ((h->flags & PC_PLAN_ENTER) && ((h->flags & ~(PC_PLAN_ENTER | PC_PLAN_STUB)) || (h->clone_flags & ~(uint64_t)CLONE_INTO_CGROUP)))
		return bad(where, offsetof(struct pc_plan_header, flags));
	if ((h->flags & PC_PLAN_VISIBLE) && !(h->flags & PC_PLAN_LEAN))
		return bad(where, offsetof(struct pc_plan_header, flags));
	if (h->stub_slot != PC_NO_SLOT && (h->stub_slot < 0 || (uint32_t)h->stub_slot >= h->n_slots))
		return bad(where, offsetof(struct pc_plan_header, stub_slot));
	if ((h->flags & PC_PLAN_STUB) && h->stub_slot == PC_NO_SLOT)
		return bad(where, offsetof(struct pc_plan_header, stub_slot));
	/* CLONE_VM only into a new pid namespace: nobody there can look at the engine's memory (2016-9962). */
	if ((h->flags & PC_PLAN_SHARE_VM) && (!(h->clone_flags & CLONE_NEWPID) || (h->flags & PC_PLAN_GATED)))
		return bad(where, offsetof(struct pc_plan_header, clone_flags));
	if (h->clone_flags & ~(NAMESPACES | CLONE_INTO_CGROUP))
		return bad(where, offsetof(struct pc_plan_header, clone_flags));
	if (h->n_slots > PC_MAX_SLOTS || h->n_given > h->n_slots)
		return bad(where, offsetof(struct pc_plan_header, n_slots));
	if ((h->clone_flags & CLONE_INTO_CGROUP) ? (h->cgroup_slot < 0 || (uint32_t)h->cgroup_slot >= h->n_slots)
						  : h->cgroup_slot != PC_NO_SLOT)
		return bad(where, offsetof(struct pc_plan_header, cgroup_slot));
	return 0;
}

int pc_plan_decode(const uint8_t *bytes, uint64_t len, struct pc_plan *plan, uint32_t *where)
{
	struct pc_plan p = {.bytes = bytes};
	uint64_t off = sizeof p.head;

	if (len < sizeof p.head || len > PC_PLAN_MAX)
		return bad(where, 0);
	memcpy(&p.head, bytes, sizeof p.head);
	int err = check_header(&p.head, len, where);
	if (err < 0)
		return err;
	for (int s = 0; s < PC_SECTIONS; s++) {
		if (p.head.n_ops[s] > PC_MAX_OPS)
			return bad(where, offsetof(struct pc_plan_header, n_ops));
		p.ops[s] = (const struct pc_op *)(bytes + off);
		off += (uint64_t)p.head.n_ops[s] * sizeof(struct pc_op);
	}
	if (off > len || p.head.strings_off != off || p.head.strings_len != len - off || p.head.strings_len == 0)
		return bad(where, offsetof(struct pc_plan_header, strings_off));
	p.strings = (const char *)(bytes + off);
	if (p.strings[0] != '\0' || p.strings[p.head.strings_len - 1] != '\0')
		return bad(where, off);
	if (p.head.argc == 0 || p.head.argc > p.head.strings_len || !list_fits(&p, p.head.argv_off, p.head.argc))
		return bad(where, offsetof(struct pc_plan_header, argv_off));
	if (p.head.envc > p.head.strings_len || !list_fits(&p, p.head.env_off, p.head.envc))
		return bad(where, offsetof(struct pc_plan_header, env_off));
	for (int s = 0; s < PC_SECTIONS; s++)
		for (uint32_t i = 0; i < p.head.n_ops[s]; i++) {
			const struct pc_op *op = &p.ops[s][i];
			if (!op_fits(&p, op, (enum pc_section)s) || !fork_fits(&p, op) || !hook_fits(&p, op))
				return bad(where, (uint64_t)((const uint8_t *)op - bytes));
			p.asks |= pc_op_asks(op->code);
		}
	*plan = p;
	return 0;
}
