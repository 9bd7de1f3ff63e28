/* Prints the mean of the numbers on standard input. */
#include <stdio.h>

int main(void)
{
    double value, sum = 0.0;
    unsigned long count = 0;

    while (scanf("%lf", &value) == 1) {
        sum += value;
        count++;
    }
    if (count == 0) {
        fprintf(stderr, "no numbers\n");
        return 1;
    }
    printf("%g\n", sum / (double) count);
    return 0;
}
