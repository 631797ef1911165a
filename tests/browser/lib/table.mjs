// Prints the figures of the last run.
import { table } from './report.mjs';
console.log(table());
