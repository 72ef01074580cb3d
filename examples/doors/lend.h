/* lend.h: what lendd and borrow say to each other. */
#ifndef LEND_H
#define LEND_H

#define LEND_MAXNAME 64

/* The request is a file's name with its zero byte; the answer is this, and the
   open file if error is 0. */
struct lend_answer {
    int error;
};

#endif
