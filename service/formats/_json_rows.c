/* Rows of JSON numbers, read straight into a float32 block: the hot path of json.py.
 *
 * A number takes one of two ways. The usual way estimates it in double arithmetic, sixteen digits at once, and knows
 * how wrong the estimate can be. If all numbers that near round to the same float32, that is the answer. If not, which
 * is once in sixteen thousand random numbers, and for numbers of an unusual shape, the long way asks Python's exact
 * conversion. (The idea is Bellerophon's: Clinger 1990, doi:10.1145/93542.93557. Lemire 2021, arXiv:2101.11408, needs
 * 128-bit integers to estimate a float64; for a float32, a float64 has bits to spare.)
 *
 * `bytes` end with a NUL that is not part of them, and nothing here steps over a NUL: so whatever goes from byte to
 * byte stops at the end of the data by itself. What loads several bytes at once first makes sure that they are there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Why a call ended. */
enum { MORE, FULL, END, ODD };

/* The usual way may load as many bytes, from a number's first. */
enum { WINDOW = 32 };

/* What an estimate can be wrong by, relatively. The 16 decimals that are read leave out at most 1e-16 of at least
 * 2^-13, which is below 2^-40; six roundings of 2^-53 are far less. This is twice as much. */
#define ERROR 0x1p-39
enum { MAX_WHOLE_DIGITS = 8, MAX_DECIMALS = 16 };

/* By what differs from number to number (more decimals? negative?): a branch on that would often be guessed wrong. */
static const double LEAST[] = {0, 0x1p-13}, SIGNS[] = {1, -1};

#define UP(d) 1e##d##0, 1e##d##1, 1e##d##2, 1e##d##3, 1e##d##4, 1e##d##5, 1e##d##6, 1e##d##7, 1e##d##8, 1e##d##9
#define DOWN(d) \
    1e-##d##0, 1e-##d##1, 1e-##d##2, 1e-##d##3, 1e-##d##4, 1e-##d##5, 1e-##d##6, 1e-##d##7, 1e-##d##8, 1e-##d##9
static const double POWERS[] = {UP(0), UP(1), UP(2), UP(3)};
static const double INVERSE_POWERS[] = {DOWN(0), DOWN(1), DOWN(2), DOWN(3), DOWN(4)};
enum { MAX_EXPONENT = 39, MIN_EXPONENT = -49 };

#if defined(__x86_64__) && defined(__SSE2__)
#include <emmintrin.h>

/* Sort 16 bytes: bit i is set in *ends if p[i] is beyond `-./0123456789`, in the result if it is none of the digits.
 * (Bytes are compared as signed numbers, so `-` is moved to the least of them; bytes before `-` end up beyond `9`.) */
static inline uint32_t find_marks(const char *p, uint32_t *ends)
{
    __m128i v = _mm_add_epi8(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)(-128 - '-')));
    *ends = (uint32_t)_mm_movemask_epi8(_mm_cmpgt_epi8(v, _mm_set1_epi8(-128 + '9' - '-')));
    return *ends | (uint32_t)_mm_movemask_epi8(_mm_cmplt_epi8(v, _mm_set1_epi8(-128 + '0' - '-')));
}

/* Join 16 digits to two numbers of 8: pairs, then fours, then eights. */
static inline __m128d join_digits(__m128i v)
{
    v = _mm_srli_epi16(_mm_mullo_epi16(v, _mm_set1_epi16(10 << 8 | 1)), 8);
    v = _mm_madd_epi16(v, _mm_set1_epi32(1 << 16 | 100));
    v = _mm_madd_epi16(_mm_packs_epi32(v, v), _mm_set1_epi32(1 << 16 | 10000));
    return _mm_cvtepi32_pd(v);
}

/* Read 1 to 8 digits; 8 bytes are loaded. */
static inline double read_whole(const char *p, unsigned n)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    v = (v ^ 0x3030303030303030) << (64 - 8 * n); /* zeros come in as leading digits */
    return _mm_cvtsd_f64(join_digits(_mm_cvtsi64_si128((int64_t)v)));
}

/* Read the first 16 of n decimals; 16 bytes are loaded. */
static inline double read_decimals(const char *p, unsigned n)
{
    static const char KEEP[WINDOW + 16] = {[0 ... WINDOW - 1] = -1}; /* and 16 zeros */
    __m128i keep = _mm_loadu_si128((const __m128i *)(KEEP + WINDOW - n));
    __m128i v = _mm_and_si128(_mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8('0')), keep);
    __m128d d = _mm_mul_pd(join_digits(v), _mm_set_pd(1e-16, 1e-8));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}

#else /* the same, byte by byte */

static inline uint32_t find_marks(const char *p, uint32_t *ends)
{
    uint32_t marks = 0;
    *ends = 0;
    for (unsigned i = 0; i < 16; i++) {
        *ends |= (uint32_t)(p[i] < '-' || p[i] > '9') << i;
        marks |= (uint32_t)(p[i] < '0' || p[i] > '9') << i;
    }
    return marks;
}

static inline double read_whole(const char *p, unsigned n)
{
    uint32_t whole = 0;
    while (n-- > 0)
        whole = whole * 10 + (uint32_t)(*p++ - '0');
    return whole;
}

static inline double read_decimals(const char *p, unsigned n)
{
    unsigned n_first = n < 8 ? n : 8, n_next = n < 16 ? n - n_first : 8;
    return read_whole(p, n_first) * INVERSE_POWERS[n_first] + read_whole(p + 8, n_next) * INVERSE_POWERS[8 + n_next];
}
#endif

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *skip_digits(const char *p)
{
    while (is_digit(*p))
        p++;
    return p;
}

static inline const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
        p++;
    return p;
}

/* Read an exponent of up to three digits, after its `e`; returns its end, or NULL for the long way. */
static inline const char *read_exponent(const char *p, int *exponent)
{
    bool negative = *p == '-';
    if (negative || *p == '+')
        p++;
    const char *first = p;
    int value = 0;
    while (is_digit(*p) && p - first < 3)
        value = value * 10 + (*p++ - '0');
    *exponent = negative ? -value : value;
    return p == first || is_digit(*p) ? NULL : p;
}

/* Read a number of the usual shape; returns its end, or NULL for the long way. WINDOW bytes are loaded. */
static inline const char *read_usual_number(const char *text, float *value)
{
    uint32_t ends, marks = find_marks(text, &ends);
    if (ends == 0) {
        marks |= find_marks(text + 16, &ends) << 16;
        ends <<= 16;
        if (ends == 0)
            return NULL;
    }
    unsigned end = (unsigned)__builtin_ctz(ends), negative = text[0] == '-', point = end, n_decimals = 0;
    marks &= (marks - negative) & (ends - 1) & ~ends; /* those after the sign and before the first end */
    if (marks != 0) {
        point = (unsigned)__builtin_ctz(marks);
        n_decimals = end - point - 1;
        if (text[point] != '.' || n_decimals == 0 || (marks & (marks - 1)) != 0)
            return NULL;
    }
    unsigned n_whole = point - negative;
    unsigned most = text[negative] == '0' ? 1 : MAX_WHOLE_DIGITS;
    if (n_whole == 0 || n_whole > most)
        return NULL;
    double estimate = read_whole(text + negative, n_whole);
    if (n_decimals > 0)
        estimate += read_decimals(text + point + 1, n_decimals);
    if (estimate < LEAST[n_decimals > MAX_DECIMALS])
        return NULL;
    const char *after = text + end;
    if (*after == 'e' || *after == 'E') {
        int exponent;
        after = read_exponent(after + 1, &exponent);
        if (after == NULL || exponent > MAX_EXPONENT || exponent < MIN_EXPONENT)
            return NULL;
        estimate *= exponent < 0 ? INVERSE_POWERS[-exponent] : POWERS[exponent];
    }
    estimate *= SIGNS[negative];
    float one = (float)(estimate * (1 - ERROR)), other = (float)(estimate * (1 + ERROR));
    *value = one;
    return one == other && fabsf(other) <= FLT_MAX ? after : NULL;
}

/* What a call has to read, and where to. */
typedef struct {
    const char *start, *end, *fault; /* fault: the byte where the row at start cannot go on */
    float *rows;
    Py_ssize_t n_features, n_free;
} Task;

/* Note where a row cannot go on. */
static inline const char *stop(Task *task, const char *fault)
{
    task->fault = fault;
    return NULL;
}

/* Step over a number; NULL if JSON has no such number. */
static const char *skip_number(Task *task, const char *p)
{
    if (*p == '-')
        p++;
    if (!is_digit(*p))
        return stop(task, p);
    p = *p == '0' ? p + 1 : skip_digits(p);
    if (*p == '.') {
        if (!is_digit(*++p))
            return stop(task, p);
        p = skip_digits(p);
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        if (*p == '-' || *p == '+')
            p++;
        if (!is_digit(*p))
            return stop(task, p);
        p = skip_digits(p);
    }
    return p;
}

/* Read any number through Python's conversion; returns its end, or NULL if it is none or not finite. */
static __attribute__((noinline)) const char *read_any_number(Task *task, const char *start, float *value)
{
    const char *after = skip_number(task, start);
    if (after == NULL)
        return NULL;
    size_t length = (size_t)(after - start);
    char few[128], *text = length < sizeof few ? few : PyMem_Malloc(length + 1);
    if (text == NULL) {
        PyErr_NoMemory();
        return stop(task, after);
    }
    memcpy(text, start, length);
    text[length] = '\0';
    double number = PyOS_string_to_double(text, NULL, NULL); /* infinite when too large */
    if (text != few)
        PyMem_Free(text);
    if (PyErr_Occurred() || fabs(number) >= 0x1.ffffffp127) /* half-way to 2^128 and more rounds to infinity */
        return stop(task, after);
    *value = (float)number;
    return after;
}

static inline const char *read_number(Task *task, const char *start, float *value)
{
    const char *after = task->end - start < WINDOW ? NULL : read_usual_number(start, value);
    return after != NULL ? after : read_any_number(task, start, value);
}

/* Read a list of numbers; returns what comes after it, or NULL if it is no such list. */
static inline const char *read_list(Task *task, float *row)
{
    const char *p = skip_space(task->start);
    if (*p != '[')
        return stop(task, p);
    for (Py_ssize_t i = 0; i < task->n_features; i++) {
        p = read_number(task, skip_space(p + 1), row + i);
        if (p == NULL)
            return NULL;
        p = skip_space(p);
        if (*p != (i + 1 < task->n_features ? ',' : ']'))
            return stop(task, p);
    }
    return skip_space(p + 1);
}

/* Read a row; returns where the `,` or `]` is that comes after it, or NULL if it is no such row. */
static inline const char *read_row(Task *task, float *row)
{
    const char *p = read_list(task, row);
    return p == NULL || *p == ',' || *p == ']' ? p : stop(task, p);
}

/* Read the numbers of a row from a list of numbers; returns where the `,` or `]` is that comes after them. */
static inline const char *read_flat_row(Task *task, float *row)
{
    const char *p = task->start;
    for (Py_ssize_t i = 0;; p++) {
        p = read_number(task, skip_space(p), row + i);
        if (p == NULL)
            return NULL;
        p = skip_space(p);
        if (++i == task->n_features)
            return *p == ',' || *p == ']' ? p : stop(task, p);
        if (*p != ',')
            return stop(task, p);
    }
}

/* Read rows until one of the four states; returns their number, and moves the start past them. */
static Py_ssize_t read_all(Task *task, bool flat, int *state)
{
    for (Py_ssize_t n_read = 0;; n_read++) {
        *state = FULL;
        if (n_read == task->n_free)
            return n_read;
        float *row = task->rows + n_read * task->n_features;
        const char *after = flat ? read_flat_row(task, row) : read_row(task, row);
        if (after == NULL) {
            *state = task->fault == task->end ? MORE : ODD;
            return n_read;
        }
        task->start = after + 1;
        *state = END;
        if (*after == ']')
            return n_read + 1;
    }
}

/* Check the arguments; false, with an exception set, if they do not fit together. */
static bool check(const Py_buffer *block, Py_ssize_t start, Py_ssize_t length, Py_ssize_t filled)
{
    if (block->ndim != 2 || block->format == NULL || strcmp(block->format, "f") != 0 || block->shape[1] < 1)
        PyErr_SetString(PyExc_ValueError, "block must be float32, of two dimensions, and have a column at least");
    else if (block->readonly || !PyBuffer_IsContiguous(block, 'C'))
        PyErr_SetString(PyExc_ValueError, "block must be writable and C-contiguous");
    else if (filled < 0 || filled > block->shape[0])
        PyErr_Format(PyExc_ValueError, "filled is %zd; it must be from 0 to the block's rows, %zd", filled,
                     block->shape[0]);
    else if (start < 0 || start > length)
        PyErr_Format(PyExc_ValueError, "start is %zd; it must be from 0 to the data's length, %zd", start, length);
    else
        return true;
    return false;
}

static PyObject *read_into(PyObject *args, bool flat)
{
    PyObject *data, *array;
    Py_ssize_t start, filled;
    Py_buffer block;
    if (!PyArg_ParseTuple(args, "SnOn", &data, &start, &array, &filled)
        || PyObject_GetBuffer(array, &block, PyBUF_RECORDS_RO) < 0) /* what it may be is checked below */
        return NULL;
    PyObject *answer = NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(data);
    if (check(&block, start, length, filled)) {
        const char *text = PyBytes_AS_STRING(data);
        Py_ssize_t n_features = block.shape[1];
        Task task = {text + start, text + length, NULL, (float *)block.buf + filled * n_features, n_features,
                     block.shape[0] - filled};
        int state;
        Py_ssize_t n_read = read_all(&task, flat, &state);
        if (!PyErr_Occurred())
            answer = Py_BuildValue("nni", n_read, task.start - text, state);
    }
    PyBuffer_Release(&block);
    return answer;
}

static PyObject *read_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    return read_into(args, false);
}

static PyObject *read_flat_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    return read_into(args, true);
}

static PyObject *read_event(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *data, *array;
    Py_ssize_t start, place;
    Py_buffer block;
    if (!PyArg_ParseTuple(args, "SnOn:read_event", &data, &start, &array, &place)
        || PyObject_GetBuffer(array, &block, PyBUF_RECORDS_RO) < 0) /* what it may be is checked below */
        return NULL;
    PyObject *answer = NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(data);
    if (check(&block, start, length, place < 0 ? place : place + 1)) { /* as if it were the last of those filled */
        const char *text = PyBytes_AS_STRING(data);
        Py_ssize_t n_features = block.shape[1];
        Task task = {text + start, text + length, NULL, NULL, n_features, 0};
        const char *after = read_list(&task, (float *)block.buf + place * n_features);
        if (!PyErr_Occurred())
            answer = PyLong_FromSsize_t(after == NULL ? -1 : after - text);
    }
    PyBuffer_Release(&block);
    return answer;
}

static PyMethodDef methods[] = {
    {"read_event", read_event, METH_VARARGS, "Read a list of JSON numbers into a float32 row: see _json_rows.pyi."},
    {"read_flat_rows", read_flat_rows, METH_VARARGS, "Read JSON numbers into a float32 block: see _json_rows.pyi."},
    {"read_rows", read_rows, METH_VARARGS, "Read rows of JSON numbers into a float32 block: see _json_rows.pyi."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_json_rows", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__json_rows(void)
{
    PyObject *self = PyModule_Create(&module);
    if (self == NULL || PyModule_AddIntMacro(self, MORE) < 0 || PyModule_AddIntMacro(self, FULL) < 0
        || PyModule_AddIntMacro(self, END) < 0 || PyModule_AddIntMacro(self, ODD) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return self;
}
