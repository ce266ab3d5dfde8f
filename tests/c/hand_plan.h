/* Plans made by hand: a header, up to 16 ops and up to 1,000 bytes of strings, laid out as src/c/plan.h says. */
#ifndef PC_HAND_PLAN_H
#define PC_HAND_PLAN_H

#include "plan.h"

#include <errno.h>
#include <string.h>

struct hand_plan {
	struct pc_plan_header head;
	struct pc_op ops[PC_SECTIONS][16];
	char strings[1000];
	_Alignas(8) uint8_t bytes[4096];
};

static inline uint32_t hand_string(struct hand_plan *p, const char *s)
{
	uint32_t at = p->head.strings_len;
	memcpy(p->strings + at, s, strlen(s) + 1);
	p->head.strings_len += (uint32_t)strlen(s) + 1;
	return at;
}

static inline uint32_t hand_blob(struct hand_plan *p, const void *data, uint32_t n)
{
	uint32_t at = (p->head.strings_len + 7) & ~7u;
	memcpy(p->strings + at, data, n);
	p->head.strings_len = at + n + 1;
	return at;
}

static inline struct pc_op *hand_op(struct hand_plan *p, enum pc_section section, enum pc_op_code code)
{
	struct pc_op *op = &p->ops[section][p->head.n_ops[section]++];
	*op = (struct pc_op){.code = (uint16_t)code, .slot = PC_NO_SLOT, .slot2 = PC_NO_SLOT};
	return op;
}

/* argv is { program } */
static inline void hand_begin(struct hand_plan *p, const char *program)
{
	memset(p, 0, sizeof *p);
	p->head = (struct pc_plan_header){
		.magic = PC_PLAN_MAGIC, .version = PC_PLAN_VERSION, .cgroup_slot = PC_NO_SLOT,
		.stub_slot = PC_NO_SLOT, .strings_len = 1};
	p->head.argv_off = hand_string(p, program);
	p->head.argc = 1;
}

/* Lays the parts out in p->bytes; the length. Fields that a test has bent stay bent. */
static inline uint32_t hand_pack(struct hand_plan *p)
{
	uint32_t off = sizeof p->head;

	for (int s = 0; s < PC_SECTIONS; s++) {
		uint32_t n = p->head.n_ops[s] * (uint32_t)sizeof(struct pc_op);
		memcpy(p->bytes + off, p->ops[s], n);
		off += n;
	}
	p->head.strings_off = off;
	memcpy(p->bytes + off, p->strings, p->head.strings_len);
	p->head.total_len = off + p->head.strings_len;
	memcpy(p->bytes, &p->head, sizeof p->head);
	return p->head.total_len;
}

#endif
