/* A libnvidia-ml.so.1 with simulated GPUs, for tests of the whole application (LD_LIBRARY_PATH).
 *
 * NVMLSIM_GPUS  number of GPUs (8)
 * NVMLSIM_MODE  ok | steady (numbers never move) | lost (the last GPU) | hung (calls never return after start)
 *               | mig (GPU 0 is split in two)
 * NVMLSIM_PID   a process that holds 9 GiB on GPU 0
 * NVMLSIM_HANG_FILE  calls block for as long as this file exists
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int result;
typedef void *device;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, LOST = 15 };

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_v3;

static const unsigned long long GIB = 1024ull * 1024 * 1024;

static int mode(const char *name) {
    const char *set = getenv("NVMLSIM_MODE");
    return set != NULL && strcmp(set, name) == 0;
}

static unsigned count(void) {
    const char *set = getenv("NVMLSIM_GPUS");
    return set == NULL ? 8 : (unsigned)atoi(set);
}

static void pause_if_hung(void) {
    const char *file = getenv("NVMLSIM_HANG_FILE");
    while (mode("hung") || (file != NULL && access(file, F_OK) == 0))
        usleep(50000);
}

/* Handles: 1 + index for a GPU, 100 + number for a part of GPU 0. */
static unsigned long number(device d) { return (unsigned long)d; }
static int is_part(device d) { return number(d) >= 100; }
static int lost(device d) { return mode("lost") && number(d) == count(); }

static unsigned moving(device d, unsigned from, unsigned span) {
    unsigned long long now = mode("steady") ? 0 : (unsigned long long)time(NULL);
    return from + (unsigned)((now * 7 + number(d) * 13) % span);
}

#define ENTER(d) do { pause_if_hung(); if (lost(d)) return LOST; } while (0)
#define ENTER_WHOLE(d) do { ENTER(d); if (is_part(d)) return NOT_SUPPORTED; } while (0)

result nvmlInitWithFlags(unsigned flags) { (void)flags; pause_if_hung(); return OK; }
result nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
result nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(result code) { return code == LOST ? "GPU is lost" : "simulated error"; }

result nvmlSystemGetDriverVersion(char *out, unsigned length) {
    pause_if_hung();
    snprintf(out, length, "575.57.08");
    return OK;
}

result nvmlDeviceGetCount_v2(unsigned *out) { pause_if_hung(); *out = count(); return OK; }

result nvmlDeviceGetHandleByIndex_v2(unsigned index, device *out) {
    pause_if_hung();
    if (index >= count()) return INVALID;
    *out = (device)(unsigned long)(index + 1);
    return lost(*out) ? LOST : OK;
}

result nvmlDeviceIsMigDeviceHandle(device d, unsigned *out) { *out = is_part(d); return OK; }

result nvmlDeviceGetMigMode(device d, unsigned *current, unsigned *pending) {
    ENTER_WHOLE(d);
    *current = *pending = mode("mig") && number(d) == 1;
    return OK;
}

result nvmlDeviceGetMaxMigDeviceCount(device d, unsigned *out) { ENTER(d); *out = 7; return OK; }

result nvmlDeviceGetMigDeviceHandleByIndex(device d, unsigned index, device *out) {
    ENTER(d);
    if (!mode("mig") || number(d) != 1 || index > 1) return NOT_FOUND;
    *out = (device)(unsigned long)(100 + index);
    return OK;
}

result nvmlDeviceGetName(device d, char *out, unsigned length) {
    ENTER(d);
    snprintf(out, length, is_part(d) ? "NVIDIA H100 MIG 3g.40gb" : "NVIDIA H100 80GB HBM3");
    return OK;
}

result nvmlDeviceGetUUID(device d, char *out, unsigned length) {
    ENTER(d);
    snprintf(out, length, "GPU-51300000-0000-0000-0000-%012lu", number(d));
    return OK;
}

result nvmlDeviceGetMemoryInfo_v2(device d, memory_v2 *out) {
    ENTER(d);
    out->total = (is_part(d) ? 40 : 80) * GIB;
    out->used = moving(d, 4, is_part(d) ? 30 : 70) * GIB;
    out->free = out->total - out->used;
    out->reserved = 0;
    return OK;
}

result nvmlDeviceGetUtilizationRates(device d, rates *out) {
    ENTER_WHOLE(d);
    out->gpu = moving(d, 0, 101);
    out->memory = out->gpu / 2;
    return OK;
}

result nvmlDeviceGetTemperature(device d, unsigned sensor, unsigned *out) {
    (void)sensor;
    ENTER_WHOLE(d);
    *out = moving(d, 38, 40);
    return OK;
}

result nvmlDeviceGetPowerUsage(device d, unsigned *out) { ENTER_WHOLE(d); *out = 1000 * moving(d, 90, 600); return OK; }

result nvmlDeviceGetPowerManagementLimit(device d, unsigned *out) { ENTER_WHOLE(d); *out = 700000; return OK; }

result nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *length, process_v3 *out) {
    const char *pid = getenv("NVMLSIM_PID");
    ENTER(d);
    if (pid == NULL || number(d) != 1) { *length = 0; return OK; }
    if (*length < 1) { *length = 1; return INSUFFICIENT_SIZE; }
    *length = 1;
    out[0].pid = (unsigned)atoi(pid);
    out[0].used = 9 * GIB;
    out[0].gi = out[0].ci = 0xFFFFFFFF;
    return OK;
}

result nvmlDeviceGetGraphicsRunningProcesses_v3(device d, unsigned *length, process_v3 *out) {
    (void)out;
    ENTER(d);
    *length = 0;
    return OK;
}
