/* A syslog receiver that reads and forgets: datagrams on a Unix socket, as many as there are in one call.
   HAProxy's log goes here; a script would take time from the load generator on the same core. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define AT_ONCE 64
#define LONGEST 8192

int main(int argc, char **argv) {
    static char space[AT_ONCE][LONGEST];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct iovec vectors[AT_ONCE];
    struct mmsghdr messages[AT_ONCE] = {0};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: syslog PATH\n");
        return 2;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), room = 8 << 20;
    strcpy(address.sun_path, argv[1]);
    unlink(argv[1]);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address)) {
        perror(argv[1]);
        return 1;
    }
    for (int i = 0; i < AT_ONCE; i++) {
        vectors[i] = (struct iovec){space[i], LONGEST};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    while (recvmmsg(fd, messages, AT_ONCE, MSG_WAITFORONE, NULL) > 0) {
    }
    perror("recvmmsg");
    return 1;
}
