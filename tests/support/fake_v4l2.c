/* A V4L2 camera for programs that are started with this library preloaded: below them, in the place of the kernel.
 *
 * FAKE_V4L2_FOLDER names the camera: a folder with `video0`, an empty file that is its node, and `frame.jpg` or
 * `frame.yuyv`, its picture, which is read anew for each frame. The files `stalled` (no frame comes) and `gone` (it was
 * unplugged) are looked for at each call. As with the kernel, one program at a time has its buffers: others get EBUSY.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 8, BYTES = 1 << 20, WIDTH = 640, HEIGHT = 480, FRAME_MS = 20 };

static int camera = -1; /* the descriptor of its node */
static void *memory[BUFFERS];
static int queued[BUFFERS], count, streaming;
static unsigned format;

static void path_of(const char *name, char *path, size_t size) {
    const char *folder = getenv("FAKE_V4L2_FOLDER");
    snprintf(path, size, "%s/%s", folder ? folder : "/nonexistent", name);
}

static int has(const char *name) {
    char path[4096];
    struct stat facts;
    path_of(name, path, sizeof path);
    int before = errno, found = stat(path, &facts) == 0;
    errno = before;
    return found;
}

static int is_node(const char *path) {
    char node[4096], real[4096];
    path_of("video0", node, sizeof node);
    return strcmp(realpath(path, real) ? real : path, node) == 0;
}

static int opened(const char *path, int descriptor) {
    if (descriptor >= 0 && is_node(path)) {
        camera = descriptor;
        streaming = count = 0;
    }
    return descriptor;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = va_arg(more, mode_t);                                                                            \
        va_end(more);                                                                                                  \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                                                 \
        if (is_node(path) && has("gone")) {                                                                            \
            errno = ENODEV;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        return opened(path, real(path, flags, mode));                                                                  \
    }
OPEN(open)
OPEN(open64)
#define OPEN_2(name)                                                                                                   \
    int name(const char *path, int flags) {                                                                            \
        int (*real)(const char *, int) = dlsym(RTLD_NEXT, #name);                                                      \
        return opened(path, real(path, flags));                                                                        \
    }
OPEN_2(__open_2)
OPEN_2(__open64_2)

int close(int descriptor) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (descriptor == camera)
        camera = -1;
    return real(descriptor);
}

static int fail(int number) {
    errno = number;
    return -1;
}

static unsigned offered(void) { return has("frame.yuyv") ? V4L2_PIX_FMT_YUYV : V4L2_PIX_FMT_MJPEG; }

static int read_frame(void *target) {
    char path[4096];
    path_of(offered() == V4L2_PIX_FMT_YUYV ? "frame.yuyv" : "frame.jpg", path, sizeof path);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return 0;
    int size = (int)fread(target, 1, BYTES, file);
    fclose(file);
    return size;
}

static int dequeue(struct v4l2_buffer *buffer) {
    for (int index = 0; index < count; index++)
        if (queued[index] && !has("stalled")) {
            queued[index] = 0;
            buffer->index = index;
            buffer->bytesused = read_frame(memory[index]);
            buffer->flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_DONE;
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            buffer->timestamp.tv_sec = now.tv_sec;
            buffer->timestamp.tv_usec = now.tv_nsec / 1000;
            return 0;
        }
    return fail(EAGAIN);
}

static int control(unsigned long request, void *argument) {
    if (has("gone"))
        return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *found = argument;
        memset(found, 0, sizeof *found);
        strcpy((char *)found->driver, "fake");
        strcpy((char *)found->card, "Fake camera");
        found->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
        found->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *found = argument;
        if (found->index > 0 || found->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
            return fail(EINVAL);
        found->pixelformat = offered();
        return 0;
    }
    case VIDIOC_S_INPUT:
    case VIDIOC_S_PARM:
        return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_TRY_FMT:
    case VIDIOC_S_FMT: {
        struct v4l2_format *wanted = argument;
        format = offered();
        wanted->fmt.pix.width = WIDTH;
        wanted->fmt.pix.height = HEIGHT;
        wanted->fmt.pix.pixelformat = format;
        wanted->fmt.pix.bytesperline = format == V4L2_PIX_FMT_YUYV ? WIDTH * 2 : 0;
        wanted->fmt.pix.sizeimage = BYTES;
        return 0;
    }
    case VIDIOC_G_PARM: {
        struct v4l2_streamparm *found = argument;
        found->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (flock(camera, LOCK_EX | LOCK_NB) != 0)
            return fail(EBUSY);
        if (wanted->count > BUFFERS)
            wanted->count = BUFFERS;
        count = (int)wanted->count;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = BYTES;
        buffer->m.offset = buffer->index * BYTES;
        return 0;
    }
    case VIDIOC_QBUF:
        queued[((struct v4l2_buffer *)argument)->index] = 1;
        return 0;
    case VIDIOC_DQBUF:
        return streaming ? dequeue(argument) : fail(EINVAL);
    case VIDIOC_STREAMON:
        streaming = 1;
        return 0;
    case VIDIOC_STREAMOFF:
        streaming = 0;
        return 0;
    default:
        return fail(ENOTTY);
    }
}

int ioctl(int descriptor, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    /* Python passes the request as a signed number. */
    return descriptor >= 0 && descriptor == camera ? control(request & 0xffffffffUL, argument)
                                                   : real(descriptor, request, argument);
}

static void *map(const char *name, void *where, size_t length, int protection, int flags, int descriptor, off_t offset) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, name);
    if (descriptor < 0 || descriptor != camera)
        return real(where, length, protection, flags, descriptor, offset);
    int index = (int)(offset / BYTES);
    return memory[index] = real(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *mmap(void *where, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return map("mmap", where, length, protection, flags, descriptor, offset);
}

void *mmap64(void *where, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return map("mmap64", where, length, protection, flags, descriptor, offset);
}

int select(int most, fd_set *readable, fd_set *writable, fd_set *failed, struct timeval *limit) {
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) = dlsym(RTLD_NEXT, "select");
    if (camera < 0 || readable == NULL || camera >= most || !FD_ISSET(camera, readable))
        return real(most, readable, writable, failed, limit);
    long left = limit ? limit->tv_sec * 1000 + limit->tv_usec / 1000 : 1000;
    usleep(FRAME_MS * 1000);
    while (has("stalled") && !has("gone") && (left -= FRAME_MS) > 0)
        usleep(FRAME_MS * 1000);
    FD_ZERO(readable);
    if (writable)
        FD_ZERO(writable);
    if (failed)
        FD_ZERO(failed);
    if (left <= 0)
        return 0;
    FD_SET(camera, readable);
    return 1;
}
