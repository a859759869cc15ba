/*
 * A disk that loses power, for one process: preloaded, it keeps what the disk would have after a power cut.
 *
 * In C, because what stands before the system's functions is unsafe code in any language, and this way the workspace has
 * none. The test compiles it with `cc`, which Rust needs to link anyway.
 *
 * LAPWING_CUT_FOLDER   the folder that the process writes to
 * LAPWING_CUT_MIRROR   the folder that has what is on the disk, on the same file system
 * LAPWING_CUT_AFTER    the call of fsync or fdatasync at which the process ends: before it has an effect where the number is
 *                      odd, and after it where it is even
 *
 * The mirror has the bytes of each file as they were when the file was synced, in `data.<inode>`, and the names in each folder as
 * they were when the folder was synced, in `names.<inode>`. Each inode that it knows has a name `held.<inode>`, so that its
 * number is not used again when the file is deleted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void mirror_path(char *path, const char *kind, ino_t inode) {
    const char *mirror = getenv("LAPWING_CUT_MIRROR");
    if (!mirror) abort();
    snprintf(path, PATH_MAX, "%s/%s.%llu", mirror, kind, (unsigned long long)inode);
}

/* Whether a descriptor is of something in the folder. */
static int concerns(int descriptor, char *path) {
    const char *folder = getenv("LAPWING_CUT_FOLDER");
    char link[64];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* Copies the bytes of a file, without its holes. */
static void keep_bytes(int descriptor, const struct stat *status) {
    char path[PATH_MAX], link[64], *buffer = malloc(1 << 16);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    mirror_path(path, "held", status->st_ino);
    linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
    mirror_path(path, "data", status->st_ino);
    int from = open(link, O_RDONLY);
    int to = open(path, O_WRONLY | O_CREAT, 0600);
    if (from < 0 || to < 0 || ftruncate(to, status->st_size)) abort();
    off_t at = 0;
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE);
        while (at < end) {
            size_t want = end - at < 1 << 16 ? end - at : 1 << 16;
            ssize_t size = pread(from, buffer, want, at);
            if (size <= 0 || pwrite(to, buffer, size, at) != size) abort();
            at += size;
        }
    }
    close(from);
    close(to);
    free(buffer);
}

/* Writes down which names a folder has. */
static void keep_names(const char *folder, const struct stat *status) {
    char path[PATH_MAX], new[PATH_MAX + 8], entry_path[2 * PATH_MAX], held[PATH_MAX];
    mirror_path(path, "names", status->st_ino);
    snprintf(new, sizeof new, "%s.new", path);
    FILE *names = fopen(new, "w");
    DIR *entries = opendir(folder);
    if (!names || !entries) abort();
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(entry_path, sizeof entry_path, "%s/%s", folder, entry->d_name);
        mirror_path(held, "held", entry->d_ino);
        if (entry->d_type != DT_DIR) link(entry_path, held);
        fprintf(names, "%llu %s\n", (unsigned long long)entry->d_ino, entry->d_name);
    }
    closedir(entries);
    fclose(names);
    rename(new, path);
}

static int keep(int descriptor) {
    static long calls = 0;
    char path[PATH_MAX];
    struct stat status;
    const char *after = getenv("LAPWING_CUT_AFTER");
    if (!concerns(descriptor, path) || fstat(descriptor, &status)) return 0;
    pthread_mutex_lock(&lock);
    int last = after && ++calls >= atol(after);
    if (last && calls % 2) _exit(0);
    if (S_ISDIR(status.st_mode)) keep_names(path, &status);
    else keep_bytes(descriptor, &status);
    if (last) _exit(0);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* The real disk need not be waited for: what counts is in the mirror. */
int fsync(int descriptor) {
    return keep(descriptor);
}

int fdatasync(int descriptor) {
    return keep(descriptor);
}
