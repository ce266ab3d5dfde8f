/* The fuzzer's driver without libFuzzer: each file given, and each with every byte bent in turn, through the target. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(uint8_t *data, size_t size)
{
	static const uint8_t bends[] = {0x01, 0x80, 0xff};

	(void)LLVMFuzzerTestOneInput(data, size);
	for (size_t i = 0; i < size; i++)
		for (size_t k = 0; k < sizeof bends; k++) {
			data[i] ^= bends[k];
			(void)LLVMFuzzerTestOneInput(data, size);
			data[i] ^= bends[k];
		}
}

int main(int argc, char **argv)
{
	static uint8_t data[1 << 20];

	if (argc < 2) {
		(void)fprintf(stderr, "usage: replay FILE ...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rbe");
		if (f == NULL) {
			perror(argv[i]);
			return 1;
		}
		size_t size = fread(data, 1, sizeof data, f);
		(void)fclose(f);
		replay(data, size);
	}
	return 0;
}
