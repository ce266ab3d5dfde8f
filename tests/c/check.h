/* Enough of a test framework: a failed CHECK says where and what, counts, and goes on. */
#ifndef PC_CHECK_H
#define PC_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;
static const char *check_test = "";

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			check_failures++;                                                                              \
			(void)fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, check_test, #condition);  \
		}                                                                                                      \
	} while (0)

#define CHECK_EQ(found, expected)                                                                                      \
	do {                                                                                                           \
		long long found_ = (long long)(found), expected_ = (long long)(expected);                              \
		if (found_ != expected_) {                                                                             \
			check_failures++;                                                                              \
			(void)fprintf(stderr, "%s:%d: %s: %s is %lld, expected %lld\n", __FILE__, __LINE__, check_test, \
				      #found, found_, expected_);                                                      \
		}                                                                                                      \
	} while (0)

#define RUN(test) (check_test = #test, test())
/* For what this machine or user cannot do: said aloud, so that it is not mistaken for a pass. */
#define SKIP(reason) (void)fprintf(stderr, "skipped %s: %s\n", check_test, (reason))

static inline int check_result(void)
{
	if (check_failures)
		(void)fprintf(stderr, "%d checks failed\n", check_failures);
	return check_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
