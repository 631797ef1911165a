// Empties the folder of the last run.
import { clear } from './report.mjs';
clear();
