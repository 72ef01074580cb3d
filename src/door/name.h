/* Doors' names: the mark on a descriptor, sockets in the file system, and files
 * that a door is laid over. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "door.h"

struct door;
struct door_sender;
struct door_welcome;
struct name_listener;
struct stat;

/* A fresh connection to D whose client end carries the door's mark; the server
 * end is watched from now on. The client end (close-on-exec, the caller's), or
 * -1 with errno. Lock held by the caller: no. */
int name_mint(struct door *d);

/* Sends DESCS[0..N) on CONN, in as many notes of call SEQ as they need. A door
 * of our own goes as a fresh connection: its end is seen by itself, so the
 * receiver's copies count as one reference. 0; EINVAL: one is not open; or
 * another errno. Some may be on their way then. */
int name_send_descs(int conn, uint32_t seq, const door_desc_t *descs,
                    uint32_t n);

/* Was the door of this uniquifier made by this process? (DOOR_LOCAL) Then
 * *P_ATTRIBUTES become those that it has now. */
bool name_is_own(uint64_t uniquifier, uint32_t *p_attributes);

/* Does a door lie over FILE, opened for reading or writing? One system call. */
bool name_is_attached(int file);
/* A descriptor for that door (close-on-exec). -1 with errno: ECONNREFUSED (no
 * server), EPERM (what serves is neither the file's owner nor root, or FILE is
 * not regular), ETIMEDOUT (5 s), EMFILE, ENFILE, EPROTO. */
int name_open_file(int file);
/* Does the owner of the regular file of ST (device, inode, owner), or root,
 * serve a door over it? FILE is not opened: whoever closes a file loses his
 * record locks on it. */
bool name_is_served(const struct stat *st);
/* A descriptor for the door whose socket HELD is, an O_PATH descriptor. -1:
 * none, or not of door_attach(). */
int name_open_socket(int held);

/* The process that SENDER is asks that D be attached to FILE, which it has
 * opened for writing. FILE is taken where that succeeds. 0 or an errno. */
int name_attach_asked(struct door *d, int file,
                      const struct door_sender *sender);

struct door *name_listener_door(const struct name_listener *listener);

/* Must who connects through LISTENER first show that it may open the file? */
bool name_needs_proof(const struct name_listener *listener);
/* Is FD that file, opened for reading or writing (not O_PATH, which needs no
 * right)? */
bool name_is_proof(const struct name_listener *listener, int fd);

/* Something has happened to files that doors lie at (inotify FD tells): the
 * names of those that are gone, go. */
void name_changed(int fd);

/* Somebody asks that the file's door be detached. 0, EPERM, EINVAL. */
int name_detach_asked(struct name_listener *listener,
                      const struct door_sender *who);

/* Asks the door behind FD who it is. 0, or an errno: EPIPE, ECONNREFUSED (its
 * server is gone), ETIMEDOUT (5 s), EPROTO (what answered is no door). */
int name_ask_info(int fd, struct door_welcome *w);

/* The same in two steps, for who asks many doors at once. The answer comes on
 * *P_ANSWER, a descriptor to poll, the caller's to close; FD is kept until
 * then. 0 or an errno, and *P_ANSWER is -1. */
int name_ask_begin(int fd, int *p_answer);
/* Reads it. As name_ask_info(); EAGAIN: it has not come yet. */
int name_ask_end(int answer, struct door_welcome *w);

/* In a child of fork: the parent's names are not ours. */
void name_forget_after_fork(void);
