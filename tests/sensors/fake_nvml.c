/* A libnvidia-ml.so.1 without a GPU: the functions that the sensors call, answering from a file.
 *
 * The file named by FAKE_NVML holds lines "key value": "count 2", "gpu0.power 70000". A value "!15" answers with that
 * nvmlReturn_t; a missing key with NOT_SUPPORTED. "gpu0.error" answers so to every call with that GPU's handle. It is
 * read afresh at each call. Without it the driver is not loaded. Types and signatures are those of nvml.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
typedef union { double d; unsigned int ui; unsigned long ul; unsigned long long ull; long long sll; } value_t;
typedef struct { unsigned long long timeStamp; value_t sampleValue; } sample_t;
typedef struct { unsigned int fieldId, scopeId; long long timestamp, latencyUsec; int valueType, nvmlReturn; value_t value; } field_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; unsigned long long timeStamp; unsigned int smUtil, memUtil, encUtil, decUtil; } process_t;
typedef struct { unsigned int sm, ce, dec, enc, jpeg, ofa, gpuSlices, computeSlices; unsigned long long memory; } attributes_t;

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9 };

static int users, life;

static int look(const char *key, char *text, size_t size) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[65536];
    int found = 0;
    if (!file) return -1;
    while (fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(text, size, "%s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static nvmlReturn_t text_of(const char *key, char *text, size_t size) {
    int found = look(key, text, size);
    if (found < 0) return NO_DRIVER;
    if (!found) return NOT_SUPPORTED;
    return text[0] == '!' ? atoi(text + 1) : OK;
}

/* Handles carry the life of the library that gave them: those of an earlier one are of no use. */
static nvmlDevice_t handle_of(int gpu, int mig) { return (nvmlDevice_t)(uintptr_t)(0x1000000u | life << 16 | gpu << 8 | (mig + 1)); }

static nvmlReturn_t key_of(nvmlDevice_t device, const char *name, char *key, size_t size) {
    uintptr_t bits = (uintptr_t)device;
    int gpu = bits >> 8 & 255, mig = (int)(bits & 255) - 1;
    char text[64];
    if (!users) return UNINITIALIZED;
    if ((int)(bits >> 16 & 255) != (life & 255)) return INVALID;
    snprintf(key, size, "gpu%d.error", gpu);
    if (look(key, text, sizeof text) == 1) return atoi(text + 1);
    if (mig < 0) snprintf(key, size, "gpu%d.%s", gpu, name);
    else snprintf(key, size, "gpu%d.mig%d.%s", gpu, mig, name);
    return OK;
}

static nvmlReturn_t get_text(nvmlDevice_t device, const char *name, char *text, size_t size) {
    char key[96];
    nvmlReturn_t code = key_of(device, name, key, sizeof key);
    return code ? code : text_of(key, text, size);
}

static nvmlReturn_t get_uint(nvmlDevice_t device, const char *name, unsigned int *value) {
    char text[64];
    nvmlReturn_t code = get_text(device, name, text, sizeof text);
    if (!code) *value = (unsigned int)strtoul(text, NULL, 0);
    return code;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    char text[64];
    (void)flags;
    nvmlReturn_t code = text_of("init", text, sizeof text);
    if (code && code != NOT_SUPPORTED) return code;
    if (users++ == 0) life++;
    return OK;
}

nvmlReturn_t nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return OK;
}

const char *nvmlErrorString(nvmlReturn_t code) { return code == OK ? "Success" : "fake error"; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    char text[64];
    nvmlReturn_t code = users ? text_of("count", text, sizeof text) : UNINITIALIZED;
    if (!code) *count = (unsigned int)atoi(text);
    return code;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    unsigned int count;
    char key[96];
    nvmlReturn_t code = nvmlDeviceGetCount_v2(&count);
    if (code) return code;
    if (index >= count) return INVALID;
    *device = handle_of((int)index, -1);
    return key_of(*device, "", key, sizeof key);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    unsigned int count, gpu;
    char key[96], text[96];
    nvmlReturn_t code = nvmlDeviceGetCount_v2(&count);
    if (code) return code;
    for (gpu = 0; gpu < count; gpu++) {
        snprintf(key, sizeof key, "gpu%u.uuid", gpu);
        if (look(key, text, sizeof text) == 1 && strcmp(text, uuid) == 0) {
            *device = handle_of((int)gpu, -1);
            return OK;
        }
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) { return get_text(device, "name", name, length); }
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) { return get_text(device, "uuid", uuid, length); }
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned int *value) { return get_uint(device, "architecture", value); }
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *value) { return get_uint(device, "power", value); }
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *value) { return get_uint(device, "limit", value); }

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *low, unsigned int *high) {
    *low = 0;
    return get_uint(device, "highest", high);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *value) {
    return sensor == 0 ? get_uint(device, "temperature", value) : INVALID;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned int kind, unsigned int *value) {
    return kind == 1 ? get_uint(device, "slowdown", value) : INVALID;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy) {
    char text[64];
    nvmlReturn_t code = get_text(device, "energy", text, sizeof text);
    if (!code) *energy = strtoull(text, NULL, 0);
    return code;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, field_t *values) {
    char key[96];
    nvmlReturn_t code = key_of(device, "", key, sizeof key);
    for (int i = 0; !code && i < count; i++) {
        if (values[i].fieldId != 186) { values[i].nvmlReturn = NOT_SUPPORTED; continue; }
        values[i].valueType = 1;
        values[i].nvmlReturn = get_uint(device, "instant", &values[i].value.ui);
    }
    return code;
}

static nvmlReturn_t reasons(nvmlDevice_t device, const char *name, unsigned long long *value) {
    unsigned int bits;
    nvmlReturn_t code = get_uint(device, name, &bits);
    if (!code) *value = bits;
    return code;
}

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *value) { return reasons(device, "reasons", value); }
#endif
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *value) { return reasons(device, "reasons", value); }

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, utilization_t *rates) {
    rates->memory = 0;
    return get_uint(device, "utilization", &rates->gpu);
}

/* "stamp:percent,stamp:percent": those after the given stamp, NOT_FOUND if there are none. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, unsigned int kind, unsigned long long since, unsigned int *type, unsigned int *count, sample_t *samples) {
    static char text[65536];
    unsigned int found = 0;
    nvmlReturn_t code = kind == 1 ? get_text(device, "samples", text, sizeof text) : NOT_SUPPORTED;
    if (code) return code;
    *type = 1;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        unsigned long long stamp = strtoull(word, NULL, 0);
        if (stamp <= since) continue;
        if (samples && found < *count) {
            samples[found].timeStamp = stamp;
            samples[found].sampleValue.ull = 0;
            samples[found].sampleValue.ui = (unsigned int)atoi(strchr(word, ':') + 1);
        }
        found++;
    }
    *count = found;
    return found ? OK : NOT_FOUND;
}

/* "pid:stamp:percent,…": as the driver, INSUFFICIENT_SIZE to a look without a buffer, success when nobody runs. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, process_t *processes, unsigned int *count, unsigned long long since) {
    static char text[65536];
    unsigned int found = 0, room = *count;
    nvmlReturn_t code = get_text(device, "processes", text, sizeof text);
    if (code) return code;
    if (strcmp(text, "nobody") == 0) { *count = 0; return OK; }
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        process_t one = {0};
        if (sscanf(word, "%u:%llu:%u", &one.pid, &one.timeStamp, &one.smUtil) != 3 || one.timeStamp <= since) continue;
        if (processes && found < room) processes[found] = one;
        found++;
    }
    *count = found;
    if (!found) return NOT_FOUND;
    return processes ? OK : TOO_SMALL;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    *pending = 0;
    return get_uint(device, "mig", current);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) { return get_uint(device, "migs", count); }

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    char key[96], text[96];
    int gpu = (int)((uintptr_t)device >> 8 & 255);
    nvmlReturn_t code = key_of(device, "", key, sizeof key);
    if (code) return code;
    snprintf(key, sizeof key, "gpu%d.mig%u.uuid", gpu, index);
    if (look(key, text, sizeof text) != 1) return NOT_FOUND;
    *mig = handle_of(gpu, (int)index);
    return OK;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, attributes_t *attributes) {
    memset(attributes, 0, sizeof *attributes);
    nvmlReturn_t code = get_uint(device, "slices", &attributes->gpuSlices);
    if (!code) get_uint(device, "compute", &attributes->computeSlices);
    return code;
}
