/* The one file of a program that holds the implementation. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
