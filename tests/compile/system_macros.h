/* Poison. System headers define these names as macros although none of them is reserved: a host may include such a header
 * in front of gpt.h, so no identifier of gpt.h may be one of them. Here each of them stands for a character that no program
 * may contain. What takes arguments there takes arguments here: such a name may be a variable, but not be called.
 * compile_test.sh compiles gpt.h behind this file. A name is added where somebody's header turns up with it. */
#pragma GCC system_header       /* some of these are macros already, here or elsewhere: that needs no warning */

/* The headers that gpt.h itself includes are read first: they are not to be poisoned. */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#  include <windows.h>
#elif defined(__unix__) || defined(__APPLE__)
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <sys/types.h>
#  include <unistd.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#  include <cpuid.h>
#  include <immintrin.h>
#elif defined(__aarch64__)
#  include <arm_neon.h>
#  ifdef __linux__
#    include <sys/auxv.h>
#  endif
#endif
#ifdef _OPENMP
#  include <omp.h>
#endif

/* Windows: minwindef.h, left over from 16 bits; every windows.h has them */
#define near @
#define far @
#define pascal @
#define cdecl @
#define NEAR @
#define FAR @
#define PASCAL @
#define CDECL @
#define CONST @
#define VOID @
#define IN @
#define OUT @
#define OPTIONAL @
#define CALLBACK @
#define WINAPI @
#define APIENTRY @
#define TRUE @
#define FALSE @
#define STRICT @
#define min(a, b) @
#define max(a, b) @

/* Windows: the types of remote calls and COM, in rpcndr.h and combaseapi.h */
#define small @
#define hyper @
#define interface @
#define INTERFACE @
#define PURE @
#define THIS @

/* Windows: winnt.h, winbase.h, wingdi.h, winuser.h, winerror.h; RGB and its like take arguments */
#define TEXT(x) @
#define DELETE @
#define SYNCHRONIZE @
#define DUPLICATE @
#define UNALIGNED @
#define FORCEINLINE @
#define IGNORE @
#define INFINITE @
#define WAIT_TIMEOUT @
#define ERROR @
#define ABSOLUTE @
#define RELATIVE @
#define OPAQUE @
#define TRANSPARENT @
#define ALTERNATE @
#define WINDING @
#define DIFFERENCE @
#define PASSTHROUGH @
#define TECHNOLOGY @
#define PLANES @
#define RGB(r, g, b) @
#define CMYK(c, m, y, k) @
#define HALFTONE @
#define SUCCEEDED(x) @
#define FAILED(x) @
#define LOBYTE(x) @
#define HIBYTE(x) @
#define LOWORD(x) @
#define HIWORD(x) @
#define environ @
#define Yield() @

/* Windows: winsock2.h, an address's parts */
#define s_addr @
#define s_host @
#define s_net @
#define s_imp @
#define s_impno @
#define s_lh @
#define h_addr @
#define h_errno @

/* Windows: dlgs.h, the controls of a dialog */
#define ctl1 @
#define chx1 @
#define rad1 @
#define edt1 @
#define lst1 @
#define cmb1 @
#define stc1 @
#define scr1 @
#define grp1 @
#define frm1 @
#define rct1 @
#define ico1 @
#define psh1 @

/* Visual C++: crtdbg.h with _CRTDBG_MAP_ALLOC in a debug build; a field of such a name is called as (p->free)(...) */
#define malloc(n) (malloc)(n)
#define calloc(n, m) (calloc)(n, m)
#define realloc(p, n) (realloc)(p, n)
#define free(p) (free)(p)

/* 16-bit compilers and what imitates them */
#define huge @
#define interrupt @

/* winpthreads: pthread.h with its wrapped calls; again, fields of such names need parentheses. open, close and lseek are ours */
#define read(...) @
#define write(...) @
#define poll(...) @
#define send(...) @
#define recv(...) @
#define select(...) @
#define accept(...) @
#define access(...) @
#define connect(...) @
#define pause(...) @
#define sleep(...) @
#define system(...) @
#define open(...) ((void)0, open(__VA_ARGS__))
#define close(...) ((void)0, close(__VA_ARGS__))
#define lseek(...) ((void)0, lseek(__VA_ARGS__))

/* GNU dialects of C predefine the machine */
#define unix @
#define linux @
#define i386 @
#define sun @
#define sparc @
#define mips @
#define vax @
#define hpux @
#define sgi @
#define m68k @

/* complex.h and stdbool.h */
#define I @
#define complex @
#define imaginary @
#define bool @
#define true @
#define false @

/* math.h of System V and of old Windows */
#define DOMAIN @
#define SING @
#define OVERFLOW @
#define UNDERFLOW @
#define TLOSS @
#define PLOSS @
#define HUGE @

/* sys/param.h */
#define MIN(a, b) @
#define MAX(a, b) @
#define NBBY @
#define HZ @
#define NODEV @
#define NOFILE @
#define howmany(x, y) @
#define roundup(x, y) @
#define powerof2(x) @
#define setbit(a, i) @
#define clrbit(a, i) @
#define isset(a, i) @
#define isclr(a, i) @

/* sys/sysmacros.h; sys/types.h of the BSDs and of macOS */
#define major(dev) @
#define minor(dev) @
#define makedev(ma, mi) @

/* signal.h and sys/stat.h: fields with a second name */
#define sa_handler @
#define sa_sigaction @
#define si_pid @
#define si_uid @
#define si_value @
#define si_addr @
#define si_status @
#define si_band @
#define si_fd @
#define st_atime @
#define st_mtime @
#define st_ctime @

/* dirent.h and sys/dir.h */
#define d_fileno @

/* termios.h, sys/ttydefaults.h */
#define ECHO @
#define B0 @
#define B50 @
#define B300 @
#define B9600 @
#define NL0 @
#define NL1 @
#define CR0 @
#define CR1 @
#define TAB0 @
#define TAB1 @
#define BS0 @
#define BS1 @
#define VT0 @
#define VT1 @
#define FF0 @
#define FF1 @
#define CS5 @
#define CS6 @
#define CS7 @
#define CS8 @
#define EXTA @
#define EXTB @
#define CTRL(x) @
#define VMIN @
#define VTIME @
#define ISIG @

/* X11/X.h, X11/Xlib.h, X11/Xos.h */
#define None @
#define Bool @
#define Status @
#define True @
#define False @
#define Success @
#define Always @
#define Above @
#define Below @
#define Opposite @
#define Complex @
#define Convex @
#define Nonconvex @
#define CurrentTime @
#define Unsorted @
#define index(s, c) @
#define rindex(s, c) @

/* curses.h */
#define OK @
#define ERR @
#define addch(c) @
#define addstr(s) @
#define attron(a) @
#define bkgd(c) @
#define border(a, b, c, d, e, f, g, h) @
#define box(w, v, h) @
#define chgat(n, a, c, o) @
#define clear() @
#define delch() @
#define erase() @
#define getch() @
#define getyx(w, y, x) @
#define hline(c, n) @
#define inch() @
#define insch(c) @
#define instr(s) @
#define move(y, x) @
#define refresh() @
#define scrl(n) @
#define scroll(w) @
#define standout() @
#define timeout(n) @
#define vline(c, n) @

/* term.h of curses: a terminal's properties */
#define columns @
#define lines @
#define tab @
#define bell @
#define newline @
#define cursor_up @
#define clear_screen @
#define buttons @
#define label_width @

/* macOS: objc.h and AssertMacros.h */
#define nil @
#define Nil @
#define YES @
#define NO @
#define check(x) @
#define check_string(x, s) @
#define verify(x) @
#define verify_noerr(x) @
#define require(x, l) @
#define require_noerr(x, l) @
#define require_action(x, l, a) @

/* Arduino.h */
#define F(s) @
#define HIGH @
#define LOW @
#define INPUT @
#define OUTPUT @
#define CHANGE @
#define RISING @
#define FALLING @
#define DEFAULT @
#define INTERNAL @
#define EXTERNAL @
#define PI @
#define EULER @
#define DEC @
#define HEX @
#define OCT @
#define BIN @
#define B00000001 @
#define bit(b) @
#define sq(x) @
#define round(x) @
#define constrain(x, l, h) @
#define radians(x) @
#define degrees(x) @
#define lowByte(x) @
#define highByte(x) @
#define bitRead(x, b) @
#define bitSet(x, b) @
#define bitClear(x, b) @
#define interrupts() @
#define word(...) @

/* glib, Qt and others that a program may have in front, and what kernels and boards have */
#define ABS(x) @
#define CLAMP(x, l, h) @
#define ARRAY_SIZE(a) @
#define ARRAYSIZE(a) @
#define BIT(n) @
#define LIST_HEAD(n) @
#define PAGE_SIZE @
#define PAGE_MASK @
#define likely(x) @
#define unlikely(x) @
#define foreach(a, b) @
#define forever @
#define signals @
#define slots @
#define emit @
#define Min(a, b) @
#define Max(a, b) @
#define Assert(x) @
#define local @
#define LOCAL @
#define GLOBAL @
#define FAST @
#define IMPORT @
