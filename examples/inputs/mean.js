// Prints the mean of the numbers on standard input.
"use strict";

const text = require("fs").readFileSync(0, "utf8");
const numbers = text.split(/\s+/).filter(Boolean).map(Number);

if (numbers.length === 0) {
  console.error("no numbers");
  process.exit(1);
}
console.log(numbers.reduce((sum, value) => sum + value, 0) / numbers.length);
