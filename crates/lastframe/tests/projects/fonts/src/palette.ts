export const paper = "#40c080";
