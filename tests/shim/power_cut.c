/* Cuts the power of one mounted ext4: what it has not written is lost, its journal's tail included.
 *
 *     power_cut MOUNT IMAGE    MOUNT is a directory, IMAGE the file that holds its file system
 *
 * The shutdown call on the machine's own file system would stop the machine, so this refuses unless MOUNT is a
 * device of its own: another one than `/`, than IMAGE's, and than the directory that MOUNT stands in, and a loop device.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define EXT4_GOING_FLAGS_NOLOGFLUSH 2
#define LOOP_MAJOR 7

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    char parent[4096];
    snprintf(parent, sizeof parent, "%s/..", argv[1]);
    struct stat root, image, above, mount;
    int fd = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (fd < 0 || fstat(fd, &mount) || stat("/", &root) || stat(argv[2], &image) || stat(parent, &above)) {
        perror(argv[1]);
        return 1;
    }
    if (mount.st_dev == root.st_dev || mount.st_dev == image.st_dev || mount.st_dev == above.st_dev ||
        major(mount.st_dev) != LOOP_MAJOR) {
        fprintf(stderr, "refused: %s is not a loop device of its own\n", argv[1]);
        return 3;
    }
    uint32_t flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    if (ioctl(fd, EXT4_IOC_SHUTDOWN, &flags)) {
        perror("EXT4_IOC_SHUTDOWN");
        return 4;
    }
    return 0;
}
