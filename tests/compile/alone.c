/* The header needs nothing ahead of it and may be included twice. Compiled as C99 and as C++11. */
#include "gpt.h"
#include "gpt.h"
int alone(void);
int alone(void) { gpt_session_params p; p.n_ctx = sizeof(gpt_error) > 0; return (int)p.n_ctx + (int)GPT_OK; }
