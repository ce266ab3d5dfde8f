/* The decoder: every way to be malformed is refused, at the offset of what is wrong; names are total. */
#include "check.h"
#include "hand_plan.h"
#include "sys.h"

#include <stddef.h>

#define AT(field) offsetof(struct pc_plan_header, field)

static struct hand_plan plan;

/* One op of every section, all kinds of fields: a list, a blob, slots. */
static uint32_t good_plan(void)
{
	struct pc_op *op;

	hand_begin(&plan, "/bin/true");
	plan.head.n_given = 5;
	plan.head.n_slots = 7;
	plan.head.env_off = hand_string(&plan, "PATH=/bin");
	plan.head.envc = 1;
	op = hand_op(&plan, PC_PREPARE, PC_OP_OVERLAY);
	op->slot = 5;
	op->n = 2;
	op->s3 = hand_string(&plan, "/lower1");
	(void)hand_string(&plan, "/lower2");
	op = hand_op(&plan, PC_CHILD, PC_OP_IDS);
	op->n = 8;
	op->s3 = hand_blob(&plan, "\1\0\0\0\2\0\0", 8);
	op = hand_op(&plan, PC_CHILD, PC_OP_STDIO);
	op->slot = 0;
	op->slot2 = 1;
	op->n = 2;
	op = hand_op(&plan, PC_FINISH, PC_OP_TREE_REMOVE);
	op->s1 = hand_string(&plan, "/tree");
	return hand_pack(&plan);
}

static int check(uint64_t len, uint32_t *where)
{
	*where = UINT32_MAX;
	return pc_plan_check(plan.bytes, len, where);
}

static void good_plans_are_accepted(void)
{
	struct pc_plan out;
	uint32_t where, len = good_plan();

	CHECK_EQ(check(len, &where), 0);
	CHECK_EQ(pc_plan_decode(plan.bytes, len, &out, &where), 0);
	CHECK_EQ(out.ops[PC_CHILD][1].code, PC_OP_STDIO);
	CHECK(strcmp(pc_str(&out, out.head.argv_off), "/bin/true") == 0);
	CHECK(strcmp(pc_next(pc_str(&out, out.ops[PC_PREPARE][0].s3)), "/lower2") == 0);
}

static void every_header_field(void)
{
	static const struct {
		size_t at;
		uint32_t value;
		size_t where;
	} bad[] = {
		{AT(magic), 0, AT(magic)},
		{AT(magic), 0x4350314e, AT(magic)},
		{AT(version), 0, AT(version)},
		{AT(version), 1, AT(version)},
		{AT(total_len), 0, AT(total_len)},
		{AT(total_len), UINT32_MAX, AT(total_len)},
		{AT(flags), 64, AT(flags)},
		{AT(flags), PC_PLAN_ENTER | PC_PLAN_LEAN, AT(flags)},
		{AT(flags), PC_PLAN_ENTER | PC_PLAN_GATED, AT(flags)},
		{AT(flags), PC_PLAN_VISIBLE, AT(flags)}, /* without LEAN */
		{AT(flags), PC_PLAN_STUB, AT(stub_slot)}, /* without a stub */
		{AT(flags), UINT32_MAX, AT(flags)},
		{AT(flags), PC_PLAN_SHARE_VM, AT(clone_flags)}, /* without a new pid namespace */
		{AT(clone_flags), CLONE_VM, AT(clone_flags)},
		{AT(clone_flags), CLONE_FILES, AT(clone_flags)},
		{AT(clone_flags), CLONE_PARENT, AT(clone_flags)},
		{AT(clone_flags) + 4, 1, AT(clone_flags)}, /* CLONE_CLEAR_SIGHAND: ours to set */
		{AT(clone_flags) + 4, 2, AT(cgroup_slot)}, /* CLONE_INTO_CGROUP without a slot */
		{AT(n_given), 8, AT(n_slots)},
		{AT(n_slots), 4, AT(n_slots)},
		{AT(n_slots), PC_MAX_SLOTS + 1, AT(n_slots)},
		{AT(n_slots), UINT32_MAX, AT(n_slots)},
		{AT(n_ops[0]), PC_MAX_OPS + 1, AT(n_ops)},
		{AT(n_ops[1]), UINT32_MAX, AT(n_ops)},
		{AT(n_ops[2]), 0x80000000u, AT(n_ops)},
		{AT(n_ops[0]), 0, AT(strings_off)},
		{AT(n_ops[1]), 3, AT(strings_off)},
		{AT(n_ops[2]), PC_MAX_OPS, AT(strings_off)},
		{AT(strings_off), 0, AT(strings_off)},
		{AT(strings_off), UINT32_MAX, AT(strings_off)},
		{AT(strings_len), 0, AT(strings_off)},
		{AT(strings_len), UINT32_MAX, AT(strings_off)},
		{AT(argv_off), UINT32_MAX, AT(argv_off)},
		{AT(argc), 0, AT(argv_off)},
		{AT(argc), UINT32_MAX, AT(argv_off)},
		{AT(argc), 1000, AT(argv_off)},
		{AT(env_off), UINT32_MAX, AT(env_off)},
		{AT(envc), UINT32_MAX, AT(env_off)},
		{AT(envc), 1000, AT(env_off)},
		{AT(cgroup_slot), 0, AT(cgroup_slot)},
		{AT(cgroup_slot), (uint32_t)-2, AT(cgroup_slot)},
		{AT(stub_slot), (uint32_t)-2, AT(stub_slot)},
		{AT(stub_slot), 7, AT(stub_slot)},
		{AT(enter_slot), 1, AT(enter_slot)}, /* without ENTER */
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint32_t where, len = good_plan();
		memcpy(plan.bytes + bad[i].at, &bad[i].value, sizeof bad[i].value);
		int err = check(len, &where);
		if (err != -EBADMSG || where != bad[i].where)
			(void)fprintf(stderr, "entry %zu: %d at %u\n", i, err, where);
		CHECK_EQ(err, -EBADMSG);
		CHECK_EQ(where, bad[i].where);
	}
}

static void flags_that_contradict(void)
{
	uint32_t where, len;

	(void)good_plan();
	plan.head.flags = PC_PLAN_SHARE_VM;
	plan.head.clone_flags = CLONE_NEWPID;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	plan.head.flags |= PC_PLAN_GATED; /* nobody may wait in our memory */
	CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
	plan.head.flags = 0;
	plan.head.clone_flags = CLONE_INTO_CGROUP;
	plan.head.cgroup_slot = 6;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	plan.head.cgroup_slot = 7;
	len = hand_pack(&plan);
	CHECK_EQ(check(len, &where), -EBADMSG);
	CHECK_EQ(where, AT(cgroup_slot));
}

static void stubs_and_visible_namespaces(void)
{
	uint32_t where;

	for (int32_t slot = 0; slot < 7; slot++) { /* a given one, or one that prepare makes */
		(void)good_plan();
		plan.head.stub_slot = slot;
		plan.head.flags = PC_PLAN_STUB;
		CHECK_EQ(check(hand_pack(&plan), &where), 0);
	}
	(void)good_plan();
	plan.head.flags = PC_PLAN_LEAN | PC_PLAN_VISIBLE;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	plan.head.flags = PC_PLAN_VISIBLE;
	CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
	CHECK_EQ(where, AT(flags));
}

/* The process that goes on has memory of its own, and shares with the first one what clone3 shares by itself: nothing. */
static void forks(void)
{
	static const uint64_t good[] = {0, CLONE_NEWPID, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME};
	static const uint64_t bad[] = {CLONE_VM, CLONE_VFORK, CLONE_FILES, CLONE_THREAD, CLONE_PARENT, CLONE_INTO_CGROUP,
				       CLONE_SETTLS, 1ull << 63, CLONE_NEWPID | SIGCHLD};
	uint32_t where;

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		(void)good_plan();
		hand_op(&plan, PC_CHILD, PC_OP_FORK)->x = good[i];
		CHECK_EQ(check(hand_pack(&plan), &where), 0);
		plan.head.flags = PC_PLAN_SHARE_VM;
		plan.head.clone_flags = CLONE_NEWPID;
		CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
		CHECK_EQ(where, sizeof plan.head + 3 * sizeof(struct pc_op));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		(void)good_plan();
		hand_op(&plan, PC_CHILD, PC_OP_FORK)->x = bad[i];
		CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
		CHECK_EQ(where, sizeof plan.head + 3 * sizeof(struct pc_op));
	}
}

/* MOUNT's source is a string in the field that is a count elsewhere. */
/* What the stub takes for numbers are such, and the words are as many as they say. */
static void hooks(void)
{
	static const struct {
		const char *words[7];
		uint32_t n;
		uint64_t kind;
		const char *path;
		int fits;
	} tries[] = {
		{{"0", "0", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 1},
		{{"12", "7000", "2", "1", "a", "", "A=1"}, 7, PC_SYNC_CREATE_CONTAINER, "/h", 1},
		{{"0", "0", "1", "0", "a"}, 5, PC_SYNC_LISTENER, "/h", 0},
		{{"0", "0", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "h", 0},
		{{"0", "0", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "", 0},
		{{"0", "0", "0", "1", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0}, /* no argv[0] */
		{{"0", "0", "2", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "0", "1", "4294967295", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "0", "1", "18446744073709551612", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"", "0", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "-1", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "99999999999999999", "1", "0", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "0", "1", "0x", "a"}, 5, PC_SYNC_START_CONTAINER, "/h", 0},
		{{"0", "0", "1"}, 3, PC_SYNC_START_CONTAINER, "/h", 0},
	};
	uint32_t where;

	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		(void)good_plan();
		uint32_t path = hand_string(&plan, tries[i].path), first = plan.head.strings_len;
		for (uint32_t k = 0; k < tries[i].n; k++)
			(void)hand_string(&plan, tries[i].words[k]);
		struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_HOOK);
		op->s1 = path;
		op->s3 = first;
		op->n = tries[i].n;
		op->x = tries[i].kind;
		op->slot = op->slot2 = 0;
		CHECK_EQ(check(hand_pack(&plan), &where), tries[i].fits ? 0 : -EBADMSG);
	}
}

static void a_number_that_is_a_string(void)
{
	uint32_t where, len = good_plan() - plan.head.strings_off;
	struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_MOUNT);

	op->n = len - 1;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	for (int i = 0; i < 2; i++) {
		op->n = i ? UINT32_MAX : len;
		CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
		CHECK_EQ(where, sizeof plan.head + 3 * sizeof(struct pc_op));
	}
}

static void what_asks_is_known(void)
{
	static const enum pc_op_code asking[] = {PC_OP_PARENT_WRITE, PC_OP_LISTENER, PC_OP_SYNC, PC_OP_ID_MAPS};
	struct pc_plan out;
	uint32_t where, len = good_plan();

	CHECK_EQ(pc_plan_decode(plan.bytes, len, &out, &where), 0);
	CHECK(!out.asks);
	for (size_t i = 0; i < 4; i++) {
		(void)good_plan();
		hand_op(&plan, PC_CHILD, asking[i])->s3 = plan.ops[PC_CHILD][0].s3;
		len = hand_pack(&plan);
		CHECK_EQ(pc_plan_decode(plan.bytes, len, &out, &where), 0);
		CHECK(out.asks && pc_op_asks((uint16_t)asking[i]) && !pc_op_makes_fd((uint16_t)asking[i]));
	}
	CHECK(!pc_op_asks(PC_OP_COUNT) && !pc_op_makes_fd(UINT16_MAX));
}

/* Bends one op of the good Plan; the offset that must be named. */
#define BENT(section, index, statement)                                                                                \
	do {                                                                                                           \
		uint32_t where_, len_;                                                                                 \
		(void)good_plan();                                                                                     \
		struct pc_op *op = &plan.ops[section][index];                                                          \
		statement;                                                                                             \
		len_ = hand_pack(&plan);                                                                               \
		CHECK_EQ(check(len_, &where_), -EBADMSG);                                                              \
		uint32_t before_ = (section) == PC_PREPARE ? 0 : (section) == PC_CHILD ? 1 : 3;                         \
		CHECK_EQ(where_, sizeof plan.head + (before_ + (index)) * sizeof(struct pc_op));                       \
	} while (0)

static void every_op_field(void)
{
	uint32_t len = good_plan() - plan.head.strings_off;

	BENT(PC_PREPARE, 0, op->code = PC_OP_NONE);
	BENT(PC_PREPARE, 0, op->code = PC_OP_COUNT);
	BENT(PC_PREPARE, 0, op->code = UINT16_MAX);
	BENT(PC_PREPARE, 0, op->code = PC_OP_CHDIR); /* another section's */
	BENT(PC_CHILD, 0, op->code = PC_OP_TREE_REMOVE);
	BENT(PC_FINISH, 0, op->code = PC_OP_DIR_MAKE);
	BENT(PC_PREPARE, 0, op->slot = PC_NO_SLOT);
	BENT(PC_PREPARE, 0, op->slot = -2);
	BENT(PC_PREPARE, 0, op->slot = INT16_MIN);
	BENT(PC_PREPARE, 0, op->slot = 7);
	BENT(PC_PREPARE, 0, op->slot = 4); /* made, yet given by the caller */
	BENT(PC_CHILD, 0, op->slot2 = 7);
	BENT(PC_CHILD, 1, op->slot = INT16_MAX);
	BENT(PC_CHILD, 1, op->n = 7);
	BENT(PC_CHILD, 1, op->n = (uint32_t)-2);
	BENT(PC_FINISH, 0, op->s1 = len);
	BENT(PC_FINISH, 0, op->s1 = UINT32_MAX);
	BENT(PC_FINISH, 0, op->s2 = len);
	BENT(PC_FINISH, 0, op->s3 = len);
	BENT(PC_PREPARE, 0, op->n = 100);	 /* more strings than the table has */
	BENT(PC_PREPARE, 0, op->n = UINT32_MAX);
	BENT(PC_PREPARE, 0, op->s3 = len - 1); /* the table's last NUL: one string, not two */
	for (uint32_t i = 1; i < 8; i++)
		BENT(PC_CHILD, 0, op->s3 += i); /* a blob must be aligned */
	BENT(PC_CHILD, 0, op->n = len - op->s3 + 1);
	BENT(PC_CHILD, 0, op->n = UINT32_MAX);
}

static void offsets_at_the_edges(void)
{
	uint32_t where, len = good_plan() - plan.head.strings_off;

	plan.ops[PC_FINISH][0].s1 = len - 1;
	plan.ops[PC_CHILD][0].n = len - plan.ops[PC_CHILD][0].s3;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	plan.head.argv_off = len - 1;
	CHECK_EQ(check(hand_pack(&plan), &where), 0);
	plan.head.argv_off = len;
	CHECK_EQ(check(hand_pack(&plan), &where), -EBADMSG);
}

static void the_table_begins_and_ends_with_nul(void)
{
	uint32_t where, len = good_plan();

	plan.bytes[len - 1] = 'x';
	CHECK_EQ(check(len, &where), -EBADMSG);
	CHECK_EQ(where, plan.head.strings_off);
	len = good_plan();
	plan.bytes[plan.head.strings_off] = 'x';
	CHECK_EQ(check(len, &where), -EBADMSG);
}

/* Cut anywhere, it is refused; the copy has exactly that length, so that a sanitizer sees a read past the end. */
static void truncated_at_every_byte(void)
{
	uint32_t where, len = good_plan();

	for (uint32_t n = 0; n < len; n++) {
		uint8_t *cut = malloc(n ? n : 1);
		if (cut == NULL)
			abort();
		memcpy(cut, plan.bytes, n);
		CHECK_EQ(pc_plan_check(cut, n, &where), -EBADMSG);
		if (n >= sizeof plan.head) { /* again with a header that believes it */
			memcpy(cut + AT(total_len), &n, sizeof n);
			CHECK_EQ(pc_plan_check(cut, n, &where), -EBADMSG);
		}
		free(cut);
	}
	CHECK_EQ(pc_plan_check(NULL, 0, &where), -EBADMSG);
	CHECK_EQ(pc_plan_check(plan.bytes, (uint64_t)PC_PLAN_MAX + 1, &where), -EBADMSG);
	CHECK_EQ(pc_plan_check(plan.bytes, UINT64_MAX, &where), -EBADMSG);
}

static void decode_leaves_its_output_alone_on_failure(void)
{
	struct pc_plan out, before;
	uint32_t where, len = good_plan();

	memset(&out, 0x5a, sizeof out);
	before = out;
	plan.bytes[0] ^= 1;
	CHECK_EQ(pc_plan_decode(plan.bytes, len, &out, &where), -EBADMSG);
	CHECK(memcmp(&out, &before, sizeof out) == 0);
}

static void names_are_total(void)
{
	for (uint32_t i = 0; i < PC_STEP_COUNT; i++)
		CHECK(pc_step_name(i) != NULL && pc_step_name(i)[0] != '\0');
	CHECK(strcmp(pc_step_name(PC_STEP_COUNT), "unknown step") == 0);
	CHECK(strcmp(pc_step_name(UINT32_MAX), "unknown step") == 0);
	CHECK(strcmp(pc_version(), PC_VERSION) == 0);
}

int main(void)
{
	RUN(good_plans_are_accepted);
	RUN(every_header_field);
	RUN(flags_that_contradict);
	RUN(stubs_and_visible_namespaces);
	RUN(forks);
	RUN(hooks);
	RUN(a_number_that_is_a_string);
	RUN(what_asks_is_known);
	RUN(every_op_field);
	RUN(offsets_at_the_edges);
	RUN(the_table_begins_and_ends_with_nul);
	RUN(truncated_at_every_byte);
	RUN(decode_leaves_its_output_alone_on_failure);
	RUN(names_are_total);
	return check_result();
}
