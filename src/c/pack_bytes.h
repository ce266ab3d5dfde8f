/* Bytes that grow. */
#ifndef PC_PACK_BYTES_H
#define PC_PACK_BYTES_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct pc_bytes {
	uint8_t *data;
	size_t n, room;
};

/* Room for `more` bytes behind those that are there. */
static inline int pc_bytes_reserve(struct pc_bytes *b, size_t more)
{
	size_t room = b->room > 0 ? b->room : 256;

	if (more > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
		return -ENOMEM;
	if (b->data != NULL && b->n + more <= b->room)
		return 0;
	while (room < b->n + more)
		room *= 2;
	uint8_t *data = realloc(b->data, room);
	if (data == NULL)
		return -ENOMEM;
	b->data = data;
	b->room = room;
	return 0;
}

static inline int pc_bytes_add(struct pc_bytes *b, const void *from, size_t n)
{
	int err = pc_bytes_reserve(b, n);

	if (err == 0 && n > 0) {
		memcpy(b->data + b->n, from, n);
		b->n += n;
	}
	return err;
}

static inline int pc_bytes_zeros(struct pc_bytes *b, size_t n)
{
	int err = pc_bytes_reserve(b, n);

	if (err == 0 && n > 0) {
		memset(b->data + b->n, 0, n);
		b->n += n;
	}
	return err;
}

static inline void pc_bytes_free(struct pc_bytes *b)
{
	free(b->data);
	*b = (struct pc_bytes){0};
}

#endif
