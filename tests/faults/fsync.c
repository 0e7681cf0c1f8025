/* For LD_PRELOAD: the calls of fsync whose numbers are in FSYNC_FAILS ("2,3"; the first is 1) fail as on a broken disk.
   Calls after the last number do not fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_int calls;

int fsync(int file) {
    int call = atomic_fetch_add(&calls, 1) + 1;
    const char *numbers = getenv("FSYNC_FAILS");
    while (numbers && *numbers) {
        char *rest;
        if (strtol(numbers, &rest, 10) == call) {
            errno = EIO;
            return -1;
        }
        numbers = *rest == ',' ? rest + 1 : NULL;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(file);
}
