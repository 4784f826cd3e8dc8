/* A syslog receiver that reads and forgets, over TCP, one connection at a time. HAProxy's log goes here; a script
   would take time from the load generator on the same core. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static char space[1 << 20];
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc != 2) {
        fprintf(stderr, "usage: syslog PORT\n");
        return 2;
    }
    address.sin_port = htons(atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror(argv[1]);
        return 1;
    }
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        while (connection >= 0 && read(connection, space, sizeof space) > 0) {
        }
        close(connection);
    }
}
